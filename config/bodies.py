"""Request bodies: how large they may be."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from config import problems

LARGEST_BODY = 1_048_576  # bytes
LARGER = {"/api/v1/orders/bulk": 8 * 1_048_576}


class BodyLimit(MiddlewareMixin):
    """Answers requests to the API whose body is too large, or of a length that isn't said."""

    get_response: Callable[[HttpRequest], HttpResponseBase]

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        if not problems.is_for_api(request):
            return None
        length = request.headers.get("Content-Length", "")
        if not length and "Transfer-Encoding" in request.headers:
            return problems.response(request, "length-required", "The request has no Content-Length header.")
        most = LARGER.get(request.path, LARGEST_BODY)
        if length.isdecimal() and int(length) > most:
            return problems.response(
                request, "body-too-large", f"The body has {int(length):,} bytes; {most:,} is the most."
            )
        return None
