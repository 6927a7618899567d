"""Upcasters: plain functions that bring an event's payload from one schema version to the next.

Stored events are never rewritten. An old one is brought up to date whenever it's read, step by step, so that all
code knows the newest version only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from eventing.domain import Event

Payload = dict[str, Any]
"""An event's fields as JSON has them."""

U = TypeVar("U", bound=Callable[[Payload], Payload])


class UnknownVersion(LookupError):
    """The log holds an event of a schema version that no code can read."""


_upcasters: dict[tuple[type[Event], int], list[Callable[[Payload], Payload]]] = {}


def upcasts(event: type[Event], *, from_version: int) -> Callable[[U], U]:
    """Make a function the step of an event's payload from this version to the next.

    It gets the payload with its personal fields open, and returns the next version's. It belongs into the
    ``upcasters`` module of the event's context. The system check wants exactly one for each version before the
    class's own.
    """

    def register(function: U) -> U:
        _upcasters.setdefault((event, from_version), []).append(function)
        return function

    return register


def upcasters() -> dict[tuple[type[Event], int], list[Callable[[Payload], Payload]]]:
    """Every step, by event and the version that it starts from: exactly one each, says the system check."""
    return _upcasters


def upcast(event: type[Event], version: int, data: str) -> str:
    """Bring JSON text of an old version up to the class's own. Raises UnknownVersion."""
    payload = msgspec.json.decode(data)
    for step in range(version, event.schema_version):
        payload = _step(event, step)(payload)
    if version > event.schema_version:
        raise UnknownVersion(
            f"{event.stored_name} was stored with schema version {version}, and this program knows it up to "
            f"{event.schema_version}: it was written by newer code. Run that here too."
        )
    return msgspec.json.encode(payload).decode()


def _step(event: type[Event], version: int) -> Callable[[Payload], Payload]:
    try:
        return _upcasters[event, version][0]
    except KeyError:
        raise UnknownVersion(
            f"{event.stored_name} was stored with schema version {version}, and nothing brings it to "
            f"{version + 1}. Write a function with @upcasts({event.__name__}, from_version={version}) in the "
            "`upcasters` module of its context."
        ) from None
