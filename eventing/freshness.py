"""How a reader sees what was written a moment ago, although read models follow the log.

Each write is answered with a token, `Consistency-Token`. A read that brings it along waits until its read models have
seen that far, for two seconds, or as long as `Prefer: wait=N` says. Each read tells which position of the log its read
models have seen, and how many milliseconds they are behind it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from django.core import signing
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import checkpoints
from eventing.headers import CONSISTENCY_TOKEN, BadHeader, preferences
from eventing.models import OutboxEntry
from eventing.projections import ReadModel
from eventing.records import Stream
from eventing.statements import give_back, run
from eventing.store import Pending
from eventing.subscriptions import name_of, subscription_named

HEADER = CONSISTENCY_TOKEN
MIN_VERSION = "X-Min-Version"
POSITION, LAG = "X-Projection-Position", "X-Projection-Lag-Ms"

WAIT = 2.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1

# How far the slowest of the read models' partitions is, for how many milliseconds it hasn't seen what comes next, and
# whether all of them have shown an event: it has its place in the log, they are past it, and it isn't set aside in one
# of them because it failed there.
HOW_FAR = """
WITH models AS (
    SELECT min(checkpoint.position) AS position
    FROM eventing_checkpoint checkpoint
    JOIN unnest(%(names)s::text[], %(partitions)s::int[]) AS wanted (name, partition)
        ON checkpoint.subscription = wanted.name
        AND checkpoint.partition = coalesce(wanted.partition, checkpoint.partition)
)
SELECT models.position,
    coalesce((
        SELECT extract(epoch FROM statement_timestamp() - published_at) * 1000
        FROM eventing_log WHERE eventing_log.position = models.position + 1
    ), 0)::bigint,
    coalesce(target.position <= models.position, false) AND NOT EXISTS (
        SELECT FROM eventing_delivery parked WHERE parked.subscription = ANY(%(names)s)
            AND parked.position = target.position AND parked.state IN ('waiting', 'dead')
    )
FROM models LEFT JOIN LATERAL (
    SELECT coalesce(%(position)s::bigint, (
        SELECT log.position FROM eventing_log log WHERE log.event_id = coalesce(%(event)s::uuid, (
            SELECT id FROM eventing_event
            WHERE category = %(category)s AND stream_id = %(stream_id)s AND version = %(version)s
        ))
    )) AS position
) target ON true
"""

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class ProjectionBehind(APIException):
    """The read model hasn't seen what the reader wants to see."""

    status_code, default_code = 503, "projection-behind"
    wait = 1  # seconds


class Written:
    """What a request has recorded so far: its last event, and the streams that the answer to it tells of."""

    def __init__(self) -> None:
        self.last: UUID | None = None
        self.streams = set[str]()


_written: ContextVar[Written | None] = ContextVar("written", default=None)


@contextmanager
def noting() -> Iterator[Written]:
    """Inside, keep in mind what is recorded."""
    token = _written.set(written := Written())
    try:
        yield written
    finally:
        _written.reset(token)


def note(recorded: Sequence[Pending]) -> None:
    """Keep in mind what was recorded."""
    if (written := _written.get()) is not None and recorded:
        written.last = recorded[-1].id
        written.streams.update(str(each.stream) for each in recorded)


def tell_of(stream: Stream) -> None:
    """Keep in mind that the answer tells of a stream, whether or not something was recorded in it."""
    if (written := _written.get()) is not None:
        written.streams.add(str(stream))


def token() -> str:
    """Says how far one has to see to see what was written here; where nothing was, all that has been written by now."""
    written = _written.get()
    last = written.last if written else None
    if last is None:
        newest = OutboxEntry.objects.order_by("-id").values_list("event_id", flat=True).first()
        last = newest or None
    return _signer().sign(str(last or checkpoints.head()))


class Target(NamedTuple):
    """What a reader wants to see: an event by its id, its place in the log, or its place in a stream."""

    event: UUID | None = None
    position: int | None = None
    stream: Stream | None = None
    version: int | None = None


class Seen(NamedTuple):
    """How far read models are: a position of the log, and milliseconds behind it."""

    position: int
    lag: int


class FromReadModels(APIView):
    """A view that answers from read models: waits for them where the reader asks for that, and tells how far they are.

    ``keyed_by`` names the part of the address that their rows are of, so that only that partition matters; with
    ``category``, of the stream of that id, a reader can ask for a version too. ``consults`` are those that a write
    looks something up in: it waits for them if it brings a token along.
    """

    read_models: ClassVar[tuple[type[ReadModel[Any]], ...]] = ()
    consults: ClassVar[tuple[type[ReadModel[Any]], ...]] = ()
    keyed_by: ClassVar[str] = ""
    category: ClassVar[str] = ""
    seen: Seen | None = None

    def check_visible(self, request: Request, key: str) -> None:
        """Before a version is waited for, so that nobody learns by it what they may not see. Raises Http404."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Wait, once it's known who asks. Raises ProjectionBehind."""
        super().initial(request, *args, **kwargs)
        if request.method in ("GET", "HEAD"):
            if request.query_params.get("source") != "stream":
                self.seen = self._wait(request, self.read_models, str(kwargs.get(self.keyed_by, "")))
        elif self.consults and HEADER in request.headers:
            self._wait(request, self.consults, "")

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Tell how far they are."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if self.seen is not None:
            response[POSITION], response[LAG] = str(self.seen.position), str(self.seen.lag)
        return response

    def _wait(self, request: Request, models: Sequence[type[ReadModel[Any]]], key: str) -> Seen:
        targets = list(_targets(request, Stream(self.category, key) if self.category else None))
        if any(target.version for target in targets):
            self.check_visible(request, key)
        patience = preferences(request).wait
        until = time.monotonic() + (WAIT if patience is None else patience)
        pause = FIRST_PAUSE
        while True:
            seen, missing = _look(targets, [name_of(model) for model in models], key)
            if not missing:
                return seen
            if time.monotonic() + pause > until:
                raise ProjectionBehind(
                    f"The read model is at position {seen.position}, {seen.lag} ms behind the log, and hasn't shown "
                    "what you want to see."
                )
            rest(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)


def _look(targets: Sequence[Target], names: Sequence[str], key: str) -> tuple[Seen, bool]:
    """How far the read models are, and whether there is something that they don't show yet."""
    partitions = [subscription_named(name).partition_of(key) if key else None for name in names]
    missing = False
    for target in targets or [Target()]:
        stream = target.stream or Stream("", "")
        ((position, lag, shown),) = run(
            HOW_FAR,
            {
                "names": list(names),
                "partitions": partitions,
                "event": target.event,
                "position": target.position,
                "category": stream.category,
                "stream_id": stream.id,
                "version": target.version,
            },
        )
        missing = missing or (bool(targets) and not shown)
    return Seen(position or 0, lag), missing


def rest(seconds: float) -> None:
    """Leave the connection to others meanwhile, where there is a pool of them."""
    give_back()
    time.sleep(seconds)


def _targets(request: Request, stream: Stream | None) -> Iterator[Target]:
    if given := request.headers.get(HEADER):
        yield _read(given)
    if given := request.headers.get(MIN_VERSION):
        if stream is None:
            raise BadHeader(MIN_VERSION, "A list has no version. Send a Consistency-Token instead.")
        if not _VERSION.fullmatch(given):
            raise BadHeader(MIN_VERSION, "A version is a whole number from 1.")
        yield Target(stream=stream, version=int(given))


def _read(given: str) -> Target:
    try:
        said = _signer().unsign(given)
    except signing.BadSignature:
        raise BadHeader(HEADER, "This is not a token that a write was answered with.") from None
    return Target(position=int(said)) if said.isdecimal() else Target(event=UUID(said))


def _signer() -> signing.Signer:
    return signing.Signer(salt=HEADER)
