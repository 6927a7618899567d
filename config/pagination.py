"""Pages of lists: a cursor over one unique column, so that nothing is shown twice or left out while rows come in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ValidationError as InvalidValue
from django.core.validators import ProhibitNullCharactersValidator
from django.db.models import Field, QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class Cursors(CursorPagination):
    """Orders by the view's ``ordering``, which names one unique column; `limit` entries a page."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: APIView) -> tuple[str, ...]:
        ordering: str = view.ordering  # type: ignore[attr-defined]
        self.column: Field[Any, Any] = queryset.model._meta.get_field(ordering.removeprefix("-"))
        return (ordering,)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Where the page begins. Raises ValidationError for a cursor that no link of ours had."""
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None:
                self._check(cursor, request.query_params["cursor"])
        except (NotFound, InvalidValue) as error:
            raise ValidationError({"cursor": ["This is not a cursor. Follow the links of a list."]}) from error
        return cursor

    def _check(self, cursor: Cursor, given: str) -> None:
        """Raises InvalidValue for one that isn't written as ours are: Base64 is decoded whatever else is in it."""
        ours = parse_qs(urlsplit(self.encode_cursor(cursor)).query).get("cursor")
        if cursor.position is None or ours != [given]:
            raise InvalidValue("It isn't as our links have it.")
        ProhibitNullCharactersValidator()(self.column.to_python(cursor.position))

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """What a list takes, with its bounds."""
        cursor, limit = super().get_schema_operation_parameters(view)
        return [cursor, {**limit, "schema": {"type": "integer", "minimum": 1, "maximum": self.max_page_size}}]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A page as OpenAPI 3.1 describes it."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }
