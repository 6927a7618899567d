"""Pages of lists: a cursor over one unique column, so that nothing is shown twice or left out while rows come in."""

from __future__ import annotations

from typing import Any

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
            if cursor and cursor.position is not None:
                ProhibitNullCharactersValidator()(self.column.to_python(cursor.position))
        except (NotFound, InvalidValue) as error:
            raise ValidationError({"cursor": ["This is not a cursor. Follow the links of a list."]}) from error
        return cursor

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A page as OpenAPI 3.1 describes it."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }
