"""Live streams over HTTP: who may follow what, and from where."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django.contrib.auth import get_user
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, Throttled, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from eventing import live, seats
from eventing.api import Digits, EventSerializer, Strict, Takes, Text, query
from eventing.headers import BadHeader
from eventing.live import Source
from eventing.records import Record, event_classes

VIEW, PERSONAL = "eventing.view_storedevent", "eventing.view_personal_data"

RETRY_SECONDS = 5  # after which somebody who has too many streams open may try again
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second one is for nginx

LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID",
    OpenApiTypes.INT64,
    OpenApiParameter.HEADER,
    description="The `id` of the last event that you have; goes before `after`. Browsers send it by themselves.",
)
STREAM = {
    (200, "text/event-stream"): OpenApiResponse(
        OpenApiTypes.STR,
        description="Server-Sent Events. `id` is the event's position in the log, `event` its type, and `data` a JSON "
        "object of `version`, `type`, `occurred_at`, `recorded_at`, `actor`, `position`, `data` and `stream`; of "
        "an event that this server can't read yet, of `type`, `position`, `data`, which is null, and `error`. It "
        "ends after a few minutes; come back with `Last-Event-ID`, and nothing is missed or repeated.",
    )
}


class NotLive(APIException):
    """The server can't stream: it would wait for the end of what has none."""

    status_code, default_code = 501, "not_live"
    default_detail = "This server speaks WSGI, which has no live streams."


class Position(Digits):
    """A position of the log that has been reached."""

    default_error_messages = {
        "invalid": "This is not a position: a whole number, such as the `id` of an event.",
        "ahead": "The log hasn't come that far: its last position is {head}.",
    }

    def to_internal_value(self, data: Any) -> int:
        position = super().to_internal_value(data)
        if position > (head := live.head()):
            self.fail("ahead", head=head)
        return position


class Resumption(Strict):
    """Where a stream begins."""

    after = Position(required=False, help_text="The position after which it begins.")


class Types(Text):
    """Stored names of events, with commas between."""

    default_error_messages = {"unknown": "There are no events named {names}."}

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data).split(",")
        if unknown := set(names) - {each.stored_name for each in event_classes()}:
            self.fail("unknown", names=", ".join(sorted(map(repr, unknown))))
        return names


class LogFilters(Resumption):
    """Which events of the log are wanted."""

    types = Types(
        required=False, max_length=5_000, help_text="Such as `orders.order_placed,payments.payment_completed`."
    )


class LiveEventSerializer(EventSerializer):
    """An event, and the stream that it's in."""

    stream = serializers.CharField(help_text="Such as `order-` and the order's id.")


class EventStream(JSONRenderer):
    """Has streams asked for by their own media type. What is rendered are problems, and they are JSON."""

    media_type = "text/event-stream"


class Live(APIView):
    """Answers with a stream. A view says what may be followed by overriding `source`, which is asked again and again
    while the stream lasts: it raises what the first answer would be refused with."""

    renderer_classes = [EventStream]

    def source(self, request: Request, asked: dict[str, Any]) -> Source:
        """What whoever asks may follow. Raises Http404 or PermissionDenied."""
        raise NotImplementedError

    def answer(self, request: Request, asked: dict[str, Any]) -> HttpResponseBase:
        """The stream, from where it's asked for. Raises ValidationError, NotLive and Throttled."""
        source = self.source(request, asked)
        after = _last_seen(request, asked)
        if not hasattr(request, "scope"):
            raise NotLive
        if request.method == "HEAD":
            return HttpResponse(content_type=EventStream.media_type, headers=HEADERS)
        if (seat := seats.take(seats.streams(), str(request.user.pk))) is None:
            raise Throttled(RETRY_SECONDS, "This account has as many streams open as it may.")
        listening = Listening(self, request, asked)
        stream = live.follow(listening, source, seat, source.start if after is None else after)
        return StreamingHttpResponse(stream, content_type=EventStream.media_type, headers=HEADERS)

    def ask_again(self, request: HttpRequest, asked: dict[str, Any]) -> Source:
        """What whoever asked may follow by now, as if they had just asked. Raises what they would be refused with."""
        request.session = type(request.session)(request.session.session_key)
        request.user = get_user(request)
        again = self.initialize_request(request, *self.args, **self.kwargs)
        self.perform_authentication(again)
        self.check_permissions(again)
        return self.source(again, asked)


class Listening:
    """Whoever asked a view for a stream."""

    def __init__(self, view: Live, request: Request, asked: dict[str, Any]) -> None:
        http = request._request  # noqa: SLF001 # DRF has no other name for it
        self._ask: Callable[[], Source] = partial(view.ask_again, http, asked)

    def source(self) -> Source | None:
        """What they may follow now; None when they may not any more."""
        try:
            return self._ask()
        except (APIException, PermissionDenied, Http404):
            return None

    def shown(self, record: Record, *, sees_persons: bool) -> bytes:
        """An event as JSON on one line."""
        shown = LiveEventSerializer(record, context={"sees_persons": sees_persons}).data
        return JSONRenderer().render(shown)


class LogStream(Live):
    """Everything that happens, as it happens."""

    permission_classes = [IsAuthenticated, Takes]
    takes = (VIEW, "")

    @extend_schema(operation_id="follow_log", parameters=[LogFilters, LAST_EVENT_ID], responses=STREAM)
    def get(self, request: Request) -> HttpResponseBase:
        """The log as Server-Sent Events, from now on, or from the event after `Last-Event-ID`."""
        return self.answer(request, query(request, LogFilters))

    def source(self, request: Request, asked: dict[str, Any]) -> Source:
        read = partial(live.read_log, asked.get("types"))
        return Source(read, start=live.head(), sees_persons=request.user.has_perm(PERSONAL))


def _last_seen(request: Request, asked: dict[str, Any]) -> int | None:
    """The position that a client names. A browser that comes back names it twice: the header is the later one."""
    if "Last-Event-ID" not in request.headers:
        return cast("int | None", asked.get("after"))
    try:
        return int(Position().run_validation(request.headers["Last-Event-ID"]))
    except ValidationError as error:
        raise BadHeader("Last-Event-ID", cast("list[str]", error.detail)[0]) from error
