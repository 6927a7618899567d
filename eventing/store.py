"""The event store: appends to streams, reads them back, and edits the aggregates that they tell of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID
from zlib import crc32

import msgspec
import psycopg.errors
from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from eventing import chain, context, nudges, personal, recent, states
from eventing.context import Cause
from eventing.domain import Aggregate, Event
from eventing.kinds import UnknownCategory, id_of, kind_of
from eventing.nudges import Nudge
from eventing.personal import Sealed
from eventing.records import RECORD_COLUMNS, Record, Stored, Stream, decode_all, encode, records
from eventing.statements import run

A = TypeVar("A", bound=Aggregate[Any, Any])

Expected = Mapping[Stream, frozenset[int]]
"""Of streams, the versions of which each has to be at one when it's changed."""

ANY: Expected = {}

READ_CHUNK = 1000
LOCK_STRIPES = 1024
LATEST = 2**31 - 1  # no stream has a higher version


class ConflictError(Exception):
    """Somebody else appended to the stream first: `actual` is its version now, `expected` what we had seen."""

    def __init__(self, stream: Stream, expected: int, actual: int) -> None:
        super().__init__(f"Stream {stream}: expected version {expected}, but it is at {actual}.")
        self.stream, self.expected, self.actual = stream, expected, actual


class UnexpectedVersion(Exception):
    """Somebody wants to change a stream at a version that it isn't at: `actual` is the one it is at."""

    def __init__(self, stream: Stream, actual: int) -> None:
        super().__init__(f"Stream {stream} is at version {actual}, which isn't the one that was expected.")
        self.stream, self.actual = stream, actual


class NoSuchVersion(ValueError):
    """The stream hasn't got as many events as that."""

    def __init__(self, stream: Stream, wanted: int, actual: int) -> None:
        super().__init__(f"Stream {stream} has the versions 0 to {actual}, and not {wanted}.")


class Append(NamedTuple):
    """Events for one stream, which has to be at version ``expected`` (0 for a new one)."""

    stream: Stream
    expected: int
    events: Sequence[Event]


class Pending(NamedTuple):
    """An event that waits for the end of the unit of work, and why it was recorded."""

    id: UUID
    stream: Stream
    version: int
    event: Event
    cause: Cause


# One statement, so that N events to any number of streams cost one round trip. `behind` finds streams that aren't at
# the expected version; then nothing at all is written. Two writers that both pass it meet at the unique constraint on
# (category, stream_id, version), in the one order in which everybody inserts. The outbox keeps the order of recording.
APPEND = f"""
WITH incoming AS (
    SELECT *, statement_timestamp() AS recorded_at FROM ROWS FROM (json_to_recordset(%(events)s::json) AS (
        id uuid, category text, stream_id text, version int, type text, schema_version smallint, data jsonb,
        metadata jsonb, occurred_at timestamptz, correlation_id uuid, causation_id uuid, actor text, traceparent text
    )) WITH ORDINALITY AS event (
        id, category, stream_id, version, type, schema_version, data, metadata, occurred_at, correlation_id,
        causation_id, actor, traceparent, ordinal
    )
), behind AS (
    SELECT * FROM (
        SELECT category, stream_id, min(version) - 1 AS expected, coalesce((
            SELECT max(stored.version) FROM eventing_event stored
            WHERE stored.category = incoming.category AND stored.stream_id = incoming.stream_id
        ), 0) AS actual
        FROM incoming GROUP BY category, stream_id
    ) streams WHERE actual <> expected
), stored AS (
    INSERT INTO eventing_event (
        id, category, stream_id, version, type, schema_version, data, metadata, occurred_at, recorded_at,
        correlation_id, causation_id, actor, traceparent
    )
    SELECT id, category, stream_id, version, type, schema_version, data, metadata, occurred_at, recorded_at,
        correlation_id, causation_id, actor, traceparent
    FROM incoming WHERE NOT EXISTS (SELECT FROM behind)
    ORDER BY category, stream_id, version
), queued AS (
    INSERT INTO eventing_outbox (event_id, type, digest)
    SELECT id, type, CASE WHEN %(chained)s THEN sha256({chain.content_of("incoming")}) END
    FROM incoming WHERE NOT EXISTS (SELECT FROM behind) ORDER BY ordinal
)
SELECT category, stream_id, expected, actual FROM behind
"""

# The events of any number of streams after a version of each, up to a version, oldest first.
LOAD = """
SELECT event.category, event.stream_id, event.version, event.id, event.type, event.schema_version, event.data::text
FROM unnest(%(categories)s::text[], %(stream_ids)s::text[], %(after)s::int[]) AS wanted (category, stream_id, after)
CROSS JOIN LATERAL (
    SELECT * FROM eventing_event stored
    WHERE stored.category = wanted.category AND stored.stream_id = wanted.stream_id
        AND stored.version > wanted.after AND stored.version <= %(until)s
    ORDER BY stored.version
) event
"""

# The snapshots that today's code can read, of those that aren't younger than what is wanted.
SNAPSHOTS = """
SELECT category, stream_id, snapshot.version, last_event_id, state::text
FROM unnest(%(categories)s::text[], %(stream_ids)s::text[], %(fingerprints)s::text[])
    AS wanted (category, stream_id, fingerprint)
JOIN eventing_snapshot snapshot USING (category, stream_id, fingerprint)
WHERE snapshot.version <= %(until)s
"""

READ_FORWARDS = f"""
SELECT {RECORD_COLUMNS}, coalesce((SELECT position FROM eventing_log WHERE event_id = eventing_event.id), 0)
FROM eventing_event
WHERE category = %(category)s AND stream_id = %(stream_id)s AND version >= %(start)s
ORDER BY version LIMIT %(limit)s
"""

READ_BACKWARDS = f"""
SELECT {RECORD_COLUMNS}, coalesce((SELECT position FROM eventing_log WHERE event_id = eventing_event.id), 0)
FROM eventing_event
WHERE category = %(category)s AND stream_id = %(stream_id)s AND version <= %(start)s
ORDER BY version DESC LIMIT %(limit)s
"""

# How each of these streams began.
READ_BEGINNINGS = f"""
SELECT {RECORD_COLUMNS} FROM eventing_event
WHERE category = %(category)s AND stream_id = ANY(%(stream_ids)s) AND version = 1
"""

# What is known of a person: `metadata` names them, by an index that has only such events.
STREAMS_OF_PERSON = """
SELECT DISTINCT stream_id FROM eventing_event
WHERE category = %(category)s AND metadata @> jsonb_build_object('persons', jsonb_build_array(%(person)s::text))
    AND metadata <> '{}'
ORDER BY stream_id
"""

VERSION = """
SELECT coalesce(max(version), 0) FROM eventing_event WHERE category = %(category)s AND stream_id = %(stream_id)s
"""

# The version of a stream before the first event that was recorded after a time.
VERSION_AT = """
SELECT coalesce(min(version) FILTER (WHERE recorded_at > %(at)s) - 1, max(version), 0)
FROM eventing_event WHERE category = %(category)s AND stream_id = %(stream_id)s
"""

# Queue for streams, in the order of their numbers, until the end of the transaction. The locks are striped, so that
# a transaction over very many streams can't use up the server's lock table.
QUEUE = "SELECT pg_advisory_xact_lock(%(space)s, stripe) FROM unnest(%(stripes)s::int[]) AS stripe"
LOCK_SPACE = 20_817


def append(stream: Stream, events: Sequence[Event], *, expected: int) -> None:
    """Append events to one stream. Raises ConflictError when it isn't at version ``expected``."""
    append_all([Append(stream, expected, events)])


def append_all(appends: Sequence[Append]) -> None:
    """Append to several streams, all or nothing, in one statement. Raises ConflictError, and ValueError when two
    appends to one stream don't follow each other."""
    cause = context.current()
    ends: dict[Stream, int] = {}
    for stream, expected, events in appends:
        if ends.get(stream, expected) != expected:
            raise ValueError(f"Appends to {stream} have a gap: {ends[stream]} is followed by {expected}.")
        ends[stream] = expected + len(events)
    _write(
        [
            Pending(uuid7(), stream, expected + offset, event, cause)
            for stream, expected, events in appends
            for offset, event in enumerate(events, 1)
        ]
    )


def read(
    stream: Stream, *, start: int | None = None, backwards: bool = False, chunk: int = READ_CHUNK
) -> Iterator[Record]:
    """The records of a stream from version ``start`` on, or back from it; a chunk of them in memory at a time."""
    at = start if start is not None else LATEST if backwards else 1
    statement = READ_BACKWARDS if backwards else READ_FORWARDS
    while True:
        rows = run(statement, {"category": stream.category, "stream_id": stream.id, "start": at, "limit": chunk})
        yield from records(rows)
        if len(rows) < chunk:
            return
        at = rows[-1][3] + (-1 if backwards else 1)


def beginnings(category: str, ids: Iterable[UUID | str]) -> list[Record]:
    """The first event of each of these streams that there are, with one query, in no order."""
    return records(run(READ_BEGINNINGS, {"category": category, "stream_ids": [str(id) for id in ids]}))


def version(stream: Stream, *, at: datetime | None = None) -> int:
    """The version of a stream: how many events it has, or how many it had ``at`` a time, as `load` has it."""
    named = {"category": stream.category, "stream_id": stream.id}
    if at is not None and at.tzinfo is None:
        raise ValueError(f"{at} is a time without a zone.")
    count: int = (run(VERSION, named) if at is None else run(VERSION_AT, {**named, "at": at}))[0][0]
    return count


def ids_of_person(kind: type[A], person_id: UUID) -> list[Any]:
    """The ids of those aggregates of a kind whose events tell of a person."""
    rows = run(STREAMS_OF_PERSON, {"category": kind.category, "person": str(person_id)})
    return [id_of(kind, stream_id) for (stream_id,) in rows]


def load(kind: type[A], id: UUID | str, *, version: int | None = None, at: datetime | None = None) -> A:
    """An aggregate to look at: as it is now, as its first ``version`` events made it, or as the log knew it ``at`` a
    time. A stream without events gives a new one.

    ``at`` is compared with `recorded_at`, so that the answer is what we knew then, and stays the same for ever. What
    happened earlier than it was recorded, as orders that are imported have, comes into it when it was recorded;
    `occurred_at` has no part in this. Raises NoSuchVersion, and ValueError for a time without a zone.
    """
    stream = Stream.of(kind, id)
    aggregate = _up_to_date({stream: kind(id)}, {}, until=_end(stream, version, at))[stream]
    if version is not None and aggregate.version != version:
        raise NoSuchVersion(stream, version, aggregate.version)
    return aggregate


def _end(stream: Stream, wanted: int | None, at: datetime | None) -> int:
    match wanted, at:
        case None, None:
            return LATEST
        case None, _:
            return version(stream, at=at)
        case int(), None:
            return wanted if 0 <= wanted < LATEST else LATEST  # which there isn't; how many there are is said then
        case _:
            raise ValueError("Ask for a version or for a time, not for both.")


@contextmanager
def edit(kind: type[A], id: UUID | str) -> Iterator[A]:
    """An aggregate to be changed: what it records is appended at the end of the unit of work."""
    with edit_all(kind, [id]) as aggregates:
        yield aggregates[id]


@contextmanager
def edit_all(kind: type[A], ids: Iterable[UUID | str]) -> Iterator[dict[Any, A]]:
    """Several aggregates of one kind, loaded with one query and appended together."""
    with unit_of_work() as work, work.attempt():
        aggregates = work.load({Stream.of(kind, id): kind(id) for id in ids})
        yield {aggregate.id: aggregate for aggregate in aggregates.values()}
        work.collect(aggregates)


class Wanted(BaseException):
    """Stops a rehearsal where a handler wants to load something: no error, and nothing for handlers to catch."""

    def __init__(self, missing: dict[Stream, Any]) -> None:
        super().__init__()
        self.missing = missing


class UnitOfWork:
    """The aggregates that were loaded together and the events that will be appended together."""

    def __init__(self, expected: Expected = ANY) -> None:
        self._expected = expected
        self._loaded: dict[Stream, Aggregate[Any, Any]] = {}
        self._pending: list[Pending] = []
        self._rehearsing = False

    def load(self, wanted: dict[Stream, A]) -> dict[Stream, A]:
        """The aggregates of these streams; ``wanted`` brings a new one for each that isn't loaded yet."""
        missing = {stream: new for stream, new in wanted.items() if stream not in self._loaded}
        if self._rehearsing:
            raise Wanted(missing)
        if missing:
            fetched = _fetch(missing)
            for stream in self._expected.keys() & fetched.keys():
                if fetched[stream].version not in self._expected[stream]:
                    raise UnexpectedVersion(stream, fetched[stream].version)
            for pending in self._pending:  # a stream that was let go of by `attempt`
                if pending.stream in fetched:
                    _follow(fetched[pending.stream], pending.event)
            self._loaded.update(fetched)
        return {stream: cast(A, self._loaded[stream]) for stream in wanted}

    def rehearse(self, handlers: Iterable[Callable[[], None]]) -> dict[Stream, Aggregate[Any, Any]]:
        """What several handlers will load first, so that it can be loaded with one query: each is run up to there. One
        that fails before says so again when it's carried out."""
        wanted: dict[Stream, Aggregate[Any, Any]] = {}
        self._rehearsing = True
        try:
            for handler in handlers:
                try:
                    with suppress(Exception):
                        handler()
                except Wanted as stopped:
                    wanted |= stopped.missing
        finally:
            self._rehearsing = False
        return wanted

    def collect(self, aggregates: dict[Stream, A]) -> None:
        """Take over what the aggregates recorded."""
        for stream, aggregate in aggregates.items():
            first = aggregate.version - len(aggregate.recorded) + 1
            cause = context.current()
            self._pending += [
                Pending(uuid7(), stream, first + offset, event, cause)
                for offset, event in enumerate(aggregate.recorded)
            ]
            aggregate.recorded = []

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A part of the work that leaves no trace when it raises."""
        mark = len(self._pending)
        try:
            yield
        except BaseException:
            del self._pending[mark:]
            self._loaded.clear()
            raise

    def flush(self) -> list[Pending]:
        """Append everything that was recorded. Raises ConflictError."""
        written, self._pending = self._pending, []
        loaded, self._loaded = self._loaded, {}
        if written:
            _write(written)
            for item in written:
                if (aggregate := loaded.get(item.stream)) is not None:  # `attempt` may have let go of it
                    aggregate.last_event_id = item.id
        transaction.on_commit(lambda: recent.remember(loaded))
        return written


_work: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


@contextmanager
def unit_of_work(expected: Expected = ANY) -> Iterator[UnitOfWork]:
    """Join the unit of work that is under way, or begin one, which is flushed at the end. Raises UnexpectedVersion when
    a stream is loaded that isn't as ``expected``."""
    if (running := _work.get()) is not None:
        yield running
        return
    work = UnitOfWork(expected)
    token = _work.set(work)
    try:
        yield work
        work.flush()
    finally:
        _work.reset(token)


def is_in_unit_of_work() -> bool:
    """Whether what is recorded now is appended later, together with what others recorded."""
    return _work.get() is not None


def queue_for(streams: Iterable[Stream]) -> None:
    """Wait for everybody else who queued for one of these streams to end their transaction; then it's our turn
    until the end of ours. Call it once a transaction, before anything is loaded: that keeps the one order in
    which nobody waits in a circle."""
    stripes = sorted({crc32(str(stream).encode()) % LOCK_STRIPES for stream in streams})
    if stripes:
        run(QUEUE, {"space": LOCK_SPACE, "stripes": stripes})


def _fetch(new: dict[Stream, A]) -> dict[Stream, A]:
    """Bring aggregates up to date: those that this process remembers with the events since."""
    return _up_to_date(new, recent.recall(new))


def _up_to_date(new: dict[Stream, A], remembered: dict[Stream, Any], *, until: int = LATEST) -> dict[Stream, A]:
    """Follow the events that came after what is remembered, or after a snapshot, or from the start."""
    known = remembered | _snapshots({stream: each for stream, each in new.items() if stream not in remembered}, until)
    aggregates: dict[Stream, Any] = {**new, **known}
    for stream in _apply_events(aggregates, known, until):
        aggregates[stream] = new[stream]
        _apply_events({stream: new[stream]}, {}, until)
    return aggregates


def _snapshots(new: dict[Stream, A], until: int) -> dict[Stream, A]:
    kept = {stream: type(each) for stream, each in new.items() if each.snapshot_every}
    if not kept:
        return {}
    rows = run(
        SNAPSHOTS,
        {
            "categories": [stream.category for stream in kept],
            "stream_ids": [stream.id for stream in kept],
            "fingerprints": [states.fingerprint(kind) for kind in kept.values()],
            "until": until,
        },
    )
    found: dict[Stream, A] = {}
    for category, stream_id, at, last_event_id, state in _opened(rows):
        stream = Stream(category, stream_id)
        with suppress(msgspec.ValidationError):  # somebody has changed it; `verify_events --snapshots` tells
            aggregate = states.read(kept[stream], new[stream].id, state)
            aggregate.version, aggregate.last_event_id = at, last_event_id
            found[stream] = aggregate
    return found


def _opened(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows of snapshots, with what is sealed in their last column opened; none when somebody has changed a seal."""
    try:
        opened = personal.opened([row[-1] for row in rows])
    except personal.Unsealable:
        return []
    return [(*row[:-1], state) for row, state in zip(rows, opened, strict=True)]


def _apply_events(aggregates: dict[Stream, Any], known: dict[Stream, Any], until: int) -> set[Stream]:
    """Apply what each aggregate hasn't seen. Returns the streams whose known state isn't in the store: the last event
    it saw is read again, and has to be the same one."""
    rows = run(
        LOAD,
        {
            "categories": [stream.category for stream in aggregates],
            "stream_ids": [stream.id for stream in aggregates],
            "after": [aggregate.version - (stream in known) for stream, aggregate in aggregates.items()],
            "until": until,
        },
    )
    unconfirmed = dict(known)
    events = decode_all([Stored(*row[4:7]) for row in rows])
    for (category, stream_id, at, event_id, *_), event in zip(rows, events, strict=True):
        stream = Stream(category, stream_id)
        aggregate = aggregates[stream]
        if at > aggregate.version:
            _follow(aggregate, event)
            aggregate.last_event_id = event_id
        elif aggregate.last_event_id == event_id:
            unconfirmed.pop(stream)
    return set(unconfirmed)


def _follow(aggregate: Aggregate[Any, Any], event: Event) -> None:
    aggregate.apply(event)
    aggregate.version += 1


def _write(pending: Sequence[Pending]) -> None:
    context.about_to("record events")
    events = [item.event for item in pending]
    if any(personal.is_personal(type(event)) for event in events):
        with transaction.atomic():  # nobody is forgotten between the sealing and the storing
            _append(pending, personal.seal(events))
    else:
        _append(pending, [Sealed(event, []) for event in events])
    transaction.on_commit(nudges.nudge_relay, robust=True)
    if due := [Nudge(nudges.SNAPSHOT, item.stream) for item in pending if _is_worth_a_snapshot(item)]:
        transaction.on_commit(partial(nudges.send, due), robust=True)


def _append(pending: Sequence[Pending], sealed: Sequence[Sealed]) -> None:
    now = datetime.now(UTC)
    events = [
        {
            "id": item.id,
            "category": item.stream.category,
            "stream_id": item.stream.id,
            "version": item.version,
            "type": item.event.stored_name,
            "schema_version": item.event.schema_version,
            "data": data,
            "metadata": {"persons": persons} if persons else {},
            "occurred_at": item.cause.occurred_at or now,
            "correlation_id": item.cause.correlation_id,
            "causation_id": item.cause.causation_id,
            "actor": item.cause.actor,
            "traceparent": item.cause.traceparent,
        }
        for item, (data, persons) in zip(pending, sealed, strict=True)
    ]
    try:
        with _savepoint():
            behind = run(APPEND, {"events": encode(events), "chained": chain.is_on()})
    except IntegrityError as error:
        raise _conflict(error, pending) from error
    if behind:
        category, stream_id, expected, actual = behind[0]
        raise ConflictError(Stream(category, stream_id), expected, actual)


def _is_worth_a_snapshot(item: Pending) -> bool:
    with suppress(UnknownCategory):  # events may be written of what has no class here
        every = kind_of(item.stream.category).snapshot_every
        return every > 0 and item.version % every == 0
    return False


def _savepoint() -> AbstractContextManager[Any]:
    """Inside a transaction a conflict must leave it usable; alone, the one statement is its own transaction."""
    return transaction.atomic() if connection.in_atomic_block else nullcontext()


def _conflict(error: IntegrityError, pending: Sequence[Pending]) -> Exception:
    """The conflict that a broken unique constraint stands for; any other error as it is."""
    cause = error.__cause__
    if (
        not isinstance(cause, psycopg.errors.UniqueViolation)
        or cause.diag.constraint_name != "eventing_event_stream_version"
    ):
        return error
    expected = {item.stream: item.version - 1 for item in reversed(pending)}
    for stream, before in expected.items():
        if (actual := version(stream)) != before:
            return ConflictError(stream, before, actual)
    return error
