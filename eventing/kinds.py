"""The kinds of aggregates that the program has: their stream categories, their ids, and what they record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args
from uuid import UUID

from eventing.domain import Aggregate, Event

Kind = type[Aggregate[Any, Any]]


class UnknownCategory(LookupError):
    """No aggregate has this stream category."""


def aggregates() -> Iterator[Kind]:
    """Every aggregate class of the running program."""
    pending: list[Kind] = list(Aggregate.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        yield kind


@cache
def kind_of(category: str) -> Kind:
    """The aggregate of a stream category. Raises UnknownCategory, which lists those there are."""
    kinds = {kind.category: kind for kind in aggregates()}
    if category not in kinds:
        raise UnknownCategory(f"There's no stream category {category!r}. There are: {', '.join(sorted(kinds))}.")
    return kinds[category]


def emitted_by(kind: Kind) -> tuple[type[Event], ...]:
    """The events that an aggregate records: the first parameter of its class line."""
    events = _parameters(kind)[0]
    return get_args(events) or (events,)


def id_of(kind: Kind, text: str) -> UUID | str:
    """The id that a stream's id stands for. Raises ValueError for a text that is none."""
    if str in _parameters(kind)[1:]:
        return text
    try:
        return UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a UUID, which the ids of {kind.category!r} streams are.") from None


def _parameters(kind: Kind) -> tuple[Any, ...]:
    return get_args(kind.__orig_bases__[0])  # type: ignore[attr-defined]
