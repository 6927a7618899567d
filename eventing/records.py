"""Events as they are stored: the fact, and what is known about its recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from eventing import personal
from eventing.domain import Aggregate, Event
from eventing.upcasting import upcast


class UnknownEvent(LookupError):
    """The log holds an event whose stored name no class has."""


class Stream(NamedTuple):
    """The name of a stream: the category of its aggregate, and the aggregate's id as text."""

    category: str
    id: str

    @classmethod
    def of(cls, kind: type[Aggregate[Any, Any]], id: UUID | str) -> Stream:
        """The stream of one aggregate."""
        return cls(kind.category, str(id))

    def __str__(self) -> str:
        return f"{self.category}-{self.id}"


class Record(NamedTuple):
    """One event of the log. ``position`` is its place among all events, 0 until the relay has given it one;
    ``version`` its place in its stream, from 1; ``key`` what a subscription orders it by."""

    id: UUID
    stream: Stream
    version: int
    event: Event
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: UUID
    causation_id: UUID | None
    actor: str
    traceparent: str
    position: int = 0
    key: str = ""


def event_classes() -> Iterator[type[Event]]:
    """Every event class of the running program."""
    pending = list(Event.__subclasses__())
    while pending:
        event_class = pending.pop()
        pending.extend(event_class.__subclasses__())
        yield event_class


class Stored(NamedTuple):
    """An event as it stands in the log: its stored name, the version of its schema, and its fields as JSON text."""

    type: str
    schema_version: int
    data: str


RECORD_COLUMNS = (
    "id, category, stream_id, version, type, schema_version, data::text, occurred_at, recorded_at, correlation_id, "
    "causation_id, actor, traceparent"
)
"""What a record is made of, followed in a row by its position, and then its key."""

EVENT_COLUMNS = ", ".join(f"event.{column.strip()}" for column in RECORD_COLUMNS.split(","))
"""The same, where the table goes by the name of event beside another."""

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def encode(events: Sequence[Mapping[str, Any]]) -> str:
    """Events and what is recorded with them as JSON text."""
    return _encoder.encode(events).decode()


def decode(stored: Stored) -> Event:
    """The event that was stored, as the program of today knows it. Raises as `decode_all` does."""
    return decode_all([stored])[0]


def decode_all(stored: Sequence[Stored]) -> list[Event]:
    """The events that were stored, as the program of today knows them: personal fields opened, old versions brought
    up to date. Raises UnknownEvent, UnknownVersion, or msgspec.ValidationError for fields that the class can't read."""
    opened = personal.opened([each.data for each in stored])
    return [_decode(each, data) for each, data in zip(stored, opened, strict=True)]


def _decode(stored: Stored, data: str) -> Event:
    decoder = _decoders.get(stored.type)
    if decoder is None:
        decoder = _decoders[stored.type] = msgspec.json.Decoder(event_class(stored.type))
    if stored.schema_version != decoder.type.schema_version:
        data = upcast(decoder.type, stored.schema_version, data)
    return decoder.decode(data)


def records(rows: Sequence[Sequence[Any]]) -> list[Record]:
    """The records in rows of RECORD_COLUMNS, their positions, and, where there are any, their keys."""
    events = decode_all([Stored(*row[4:7]) for row in rows])
    return [
        Record(row[0], Stream(row[1], row[2]), row[3], event, *row[7:13], *row[13:])
        for row, event in zip(rows, events, strict=True)
    ]


@cache
def event_class(stored_name: str) -> type[Event]:
    """The class that has this stored name. Raises UnknownEvent."""
    for candidate in event_classes():
        if candidate.stored_name == stored_name:
            return candidate
    raise UnknownEvent(
        f"No event class has the stored name {stored_name!r}. If the class was renamed, keep its old name: "
        f'class …(Event, name="{stored_name}").'
    )
