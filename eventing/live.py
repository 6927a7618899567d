"""Live streams: events as Server-Sent Events, for as long as somebody listens.

A stream reads the log's table and nothing else; a hint, or a second that has passed, only says that it's worth reading
again. Positions have no gaps and never change, so a reader that goes on after the last position that it has seen
misses nothing and sees nothing twice, whatever ended the stream before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error, connection

from eventing import seats
from eventing.hints import listener
from eventing.records import EVENT_COLUMNS, Record, Stream, records
from eventing.seats import Seat
from eventing.statements import run

R = TypeVar("R")

BATCH = 100  # events that are read, and held in memory, at a time
WINDOW = 5_000  # positions of the log that one read looks at, so that rare types cost no long scan
POLL = 1.0  # seconds after which a stream looks for itself
REST = 0.05  # seconds between two reads of a stream, however many hints come
OVERTIME = 30.0  # seconds after the end of its life at which a stream is cut off whose client reads no more

UNREADABLE = "This event can't be read here."

RETRY = 1000  # milliseconds after which a client that was cut off comes back

logger = logging.getLogger(__name__)

# Events of a stream have their positions in the order of their versions, so the index on (category, stream_id,
# version) gives them in order. Each finds its position by the index on the log's event_id.
READ_STREAM = f"""
SELECT {EVENT_COLUMNS}, log.position
FROM eventing_event event JOIN eventing_log log ON log.event_id = event.id
WHERE event.category = %(category)s AND event.stream_id = %(stream_id)s AND log.position > %(after)s
ORDER BY event.version LIMIT %(limit)s
"""

# The relay commits one pass after the other, so every position up to the head can be read by whoever has seen the head.
HEAD = "SELECT coalesce(max(position), 0) FROM eventing_log"

# A window of the log, by its primary key. Without types it's all that is in it.
READ_LOG = f"""
SELECT {EVENT_COLUMNS}, log.position
FROM eventing_log log JOIN eventing_event event ON event.id = log.event_id
WHERE log.position > %(after)s AND log.position <= %(until)s
    AND (%(types)s::text[] IS NULL OR log.type = ANY(%(types)s))
ORDER BY log.position LIMIT %(limit)s
"""


class Unreadable(NamedTuple):
    """An event that this process can't read, because a newer program recorded it, or something is wrong with it."""

    position: int
    type: str
    error: Exception


class Page(NamedTuple):
    """Events that were read, the position up to which there are no others, and whether there's more to read at once."""

    records: Sequence[Record | Unreadable]
    position: int
    more: bool


class Source(NamedTuple):
    """What somebody may follow: how to read it, where it begins, and whether it shows what is personal."""

    read: Callable[[int], Page]
    start: int
    sees_persons: bool


class Follower(Protocol):
    """Somebody who listens."""

    def source(self) -> Source | None:
        """What they may follow now; None when they may not any more."""

    def shown(self, record: Record, *, sees_persons: bool) -> bytes:
        """An event as JSON on one line."""


def head() -> int:
    """The position of the last event in the log, 0 when there is none."""
    position: int = run(HEAD)[0][0]
    return position


def read_stream(stream: Stream, after: int) -> Page:
    """The next events of one stream after a position."""
    found = _read(
        run(READ_STREAM, {"category": stream.category, "stream_id": stream.id, "after": after, "limit": BATCH})
    )
    return Page(found, found[-1].position if found else after, len(found) == BATCH)


def read_log(types: Sequence[str] | None, after: int) -> Page:
    """The next events of the log after a position, of these stored types or of all."""
    end = head()
    until = min(after + WINDOW, end)
    if until <= after:
        return Page([], after, more=False)
    found = _read(run(READ_LOG, {"after": after, "until": until, "types": types, "limit": BATCH}))
    if len(found) == BATCH:
        return Page(found, found[-1].position, more=True)
    return Page(found, until, until < end)


def frame(record: Record, shown: bytes) -> bytes:
    """An event as Server-Sent Events has it."""
    return _frame(record.position, record.event.stored_name, shown)


def gap(unreadable: Unreadable) -> bytes:
    """What stands for an event that can't be read: whoever follows knows that there is one, and goes on."""
    told = {"type": unreadable.type, "position": unreadable.position, "data": None, "error": UNREADABLE}
    return _frame(unreadable.position, unreadable.type, msgspec.json.encode(told))


def _frame(position: int, type: str, shown: bytes) -> bytes:
    return f"id: {position}\nevent: {type}\ndata: ".encode() + shown + b"\n\n"


def beginning(position: int) -> bytes:
    """How a stream begins. A client that is cut off before the first event knows where to go on, for it was told."""
    return f"retry: {RETRY}\nid: {position}\n\n".encode()


def heartbeat(position: int) -> bytes:
    """Shows that the stream lives. A client that comes back needn't read again what held nothing for it."""
    return f": \nid: {position}\n\n".encode()


async def follow(follower: Follower, source: Source, seat: Seat, after: int) -> AsyncGenerator[bytes, None]:
    """Everything after a position, as it happens, until the stream's time is over, the server stops, or the follower
    may not listen any more. Each read takes a connection to the database and gives it back."""
    now = asyncio.get_running_loop().time
    pulse: float = settings.EVENTING["STREAM_HEARTBEAT_SECONDS"]
    end, beat = now() + settings.EVENTING["STREAM_SECONDS"], now() + pulse
    told = False
    with listener.listening() as ear:
        overtime = asyncio.get_running_loop().call_at(end + OVERTIME, ear.cut_off)
        try:
            yield beginning(after)
            while now() < end and not ear.closing:
                read_at = now()
                page = await _apart(source.read, after)
                if page.records:  # in one piece, so that a client that has left is noticed before the next one
                    told = told or _tell_of_gap(page)
                    yield b"".join(_shown(record, follower, source) for record in page.records)
                after = page.position
                if now() >= beat:
                    if (allowed := await _apart(_kept, follower, seat)) is None:
                        return
                    source, beat = allowed, now() + pulse
                    yield heartbeat(after)
                if not page.more:
                    await ear.wait(min(POLL, end - now(), beat - now()))
                    await asyncio.sleep(max(0.0, read_at + REST - now()))
        except Error as error:
            logger.warning("A stream ends, for the database doesn't answer: %s", error)
        finally:
            overtime.cancel()
            await _apart(seats.leave, seat)


def _read(rows: Sequence[tuple[Any, ...]]) -> Sequence[Record | Unreadable]:
    """The records in rows, each for itself where they can't be read together."""
    try:
        return records(rows)
    except Error:
        raise  # the server's fault, not an event's
    except Exception:  # one of them can't be read, for whatever reason
        return [_read_alone(row) for row in rows]


def _read_alone(row: tuple[Any, ...]) -> Record | Unreadable:
    try:
        return records([row])[0]
    except Error:
        raise
    except Exception as error:
        return Unreadable(position=row[13], type=row[4], error=error)


def _shown(record: Record | Unreadable, follower: Follower, source: Source) -> bytes:
    if isinstance(record, Unreadable):
        return gap(record)
    return frame(record, follower.shown(record, sees_persons=source.sees_persons))


def _tell_of_gap(page: Page) -> bool:
    """Log the first event of a page that can't be read. Returns whether there was one."""
    for record in page.records:
        if isinstance(record, Unreadable):
            logger.error("A stream passes over the event at %s, a %s: %r", record.position, record.type, record.error)
            return True
    return False


async def _apart(function: Callable[..., R], *arguments: Any) -> R:
    """Call what takes the database in the request's own thread, which keeps no connection."""

    def call() -> R:
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await sync_to_async(call)()


def _kept(follower: Follower, seat: Seat) -> Source | None:
    if (source := follower.source()) is not None:
        seats.keep(seat)
    return source
