"""Request bodies: how large they may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from config import problems

LARGEST_BODY = 1_048_576  # bytes
LARGER = {"/api/v1/orders/bulk": 8 * 1_048_576}

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def complaint(path: str, length: str, *, is_chunked: bool) -> tuple[str, str] | None:
    """What is wrong with a body, as a problem's code and detail; None when nothing is. ``length`` is what its header
    says, empty where there is none."""
    if not length and is_chunked:
        return "length-required", "The request has no Content-Length header."
    most = LARGER.get(path, LARGEST_BODY)
    if length.isdecimal() and int(length) > most:
        return "body-too-large", f"The body has {int(length):,} bytes; {most:,} is the most."
    return None


class BodyLimit(MiddlewareMixin):
    """Answers requests whose body is too large, or of a length that isn't said."""

    get_response: Callable[[HttpRequest], HttpResponseBase]

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        length, is_chunked = request.headers.get("Content-Length", ""), "Transfer-Encoding" in request.headers
        if (wrong := complaint(request.path, length, is_chunked=is_chunked)) is None:
            return None
        answer: HttpResponse
        if problems.is_for_api(request):
            answer = problems.response(request, *wrong)
        else:
            answer = HttpResponse(wrong[1], status=problems.PROBLEMS[wrong[0]].status, content_type="text/plain")
        answer["Connection"] = "close"  # nobody is going to read that body
        return answer


class UnreadBodies:
    """Keeps from an ASGI application the bodies that `BodyLimit` is going to refuse: Django writes the whole of a body
    to the disk before any middleware can say so, whoever sends it."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_refused(scope):
            receive = _Nothing(receive)
        await self._application(scope, receive, send)


class _Nothing:
    """A body that is empty; and after that, whether the client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._is_over = receive, False

    async def __call__(self) -> Message:
        if not self._is_over:
            self._is_over = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return message


def _is_refused(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"").decode("latin-1")
    return complaint(scope["path"], length, is_chunked=b"transfer-encoding" in headers) is not None
