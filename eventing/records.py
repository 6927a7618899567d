"""Events as they are stored: the fact, and what is known about its recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from eventing.domain import Aggregate, Event


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


_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def encode(events: Sequence[Mapping[str, Any]]) -> str:
    """Events and what is recorded with them as JSON text."""
    return _encoder.encode(events).decode()


def decode(stored_name: str, data: str) -> Event:
    """The event that was stored under this name. Raises UnknownEvent, or msgspec.ValidationError for
    fields that the class can't read."""
    decoder = _decoders.get(stored_name)
    if decoder is None:
        decoder = _decoders[stored_name] = msgspec.json.Decoder(event_class(stored_name))
    return decoder.decode(data)


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
