"""Request bodies: how large they may be, and what JSON is read as."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import IO, Any, NoReturn

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from config import problems

LARGEST_BODY = 1_048_576  # bytes


class BodyLimit(MiddlewareMixin):
    """Answers requests to the API whose body is too large, or of a length that isn't said."""

    get_response: Callable[[HttpRequest], HttpResponseBase]

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        if not problems.is_for_api(request):
            return None
        length = request.headers.get("Content-Length", "")
        if not length and "Transfer-Encoding" in request.headers:
            return problems.response(request, "length-required", "The request has no Content-Length header.")
        if length.isdecimal() and int(length) > LARGEST_BODY:
            return problems.response(
                request, "body-too-large", f"The body has {int(length):,} bytes; {LARGEST_BODY:,} is the most."
            )
        return None


class JSONParser(BaseParser):
    """Reads JSON as RFC 8259 has it: UTF-8, no NaN, no name twice in an object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return json.loads(
                stream.read().decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
            )
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: byte {error.start + 1} can't be read.") from error
        except RecursionError as error:
            raise ParseError("The body is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("an object has the same name twice")
    return names


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
