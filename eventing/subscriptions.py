"""A subscription walks the log: one checkpoint for each of its partitions, moved in the transaction that did the work.

What is consumed is what the consuming function's parameter is annotated with. Every subscription that the program
defines is known here; nothing has to be listed.
"""

from __future__ import annotations

import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple, Union, get_args, get_origin, get_type_hints

from django.conf import settings
from django.db import transaction

from eventing import nudges
from eventing.domain import Event, EventMeta
from eventing.nudges import Nudge
from eventing.records import Record

MOST_PARTITIONS = 256  # the partition comes from one byte of a hash


class Reminder(NamedTuple):
    """A reminder by its number, the time that it's put off to while it is handled, and which attempt this is."""

    id: int
    due_at: datetime
    attempt: int


class Subscription(ABC):
    """Somebody who consumes events, in the order of each sequence.

    ``key`` is the field whose value makes the sequence; "" means the event's stream. Partition counts may only be
    changed with ``manage.py subscriptions repartition``.
    """

    kind: ClassVar[str]
    starts_at_head: ClassVar[bool]
    hears_of_all: ClassVar[bool] = False
    """Whether it's for events of every stream and type, also of those that only a newer program knows."""
    version = 1
    """Counted up by projections whose read model has to be built anew."""

    def __init__(
        self,
        *,
        name: str,
        events: Iterable[type[Event]],
        key: str = "",
        partitions: int = 1,
        attempts: int = 0,
    ) -> None:
        self.name = name
        self.events = tuple(events)
        self.key = key
        self.partitions = partitions
        self.attempts: int = attempts or settings.EVENTING["ATTEMPTS"]
        self.types = [event.stored_name for event in self.events if isinstance(event, EventMeta)]

    @property
    def batch(self) -> int:
        """Events handled in one transaction."""
        size: int = settings.EVENTING["BATCH"]
        return size

    def transaction(self, *, needed: bool = True) -> AbstractContextManager[Any]:
        """Where a batch is handled; a single statement doesn't need one."""
        return transaction.atomic() if needed else nullcontext()

    @abstractmethod
    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Handle the first of these records, all in the running transaction. Returns how many, at least one."""

    def due(self, partition: int) -> Reminder | None:
        """A reminder that is due, if there is one. It's due again after a moment, unless it's handled by then."""
        return None

    def remind(self, reminder: Reminder, partition: int) -> None:
        """Handle a reminder, in the running transaction, unless that isn't needed any more."""
        raise NotImplementedError

    def put_back(self, reminder: Reminder, error: Exception | None = None) -> None:
        """Keep a reminder for later that failed, or without an ``error`` one that wasn't tried."""
        raise NotImplementedError

    def give_up(self, letter: int) -> None:  # noqa: B027 - most have nobody to tell
        """Tell whoever waits for what comes of it that a letter is dead, in the transaction in which it died."""

    def partition_of(self, sequence: str) -> int:
        """The partition that events of a sequence come to, by the same rule as the statements that read them."""
        return sha256(sequence.encode()).digest()[0] % self.partitions

    def nudge_for(self, partition: int) -> Nudge:
        """Says that there are events, letters or reminders for a partition."""
        return Nudge(nudges.ADVANCE, (self.name, partition))

    @property
    def nudges(self) -> list[Nudge]:
        """Say that there's something for every partition."""
        return [self.nudge_for(partition) for partition in range(self.partitions)]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


class UnknownSubscription(LookupError):
    """There's no subscription of this name."""


_subscriptions: dict[str, Subscription] = {}


def subscribe(subscription: Subscription) -> None:
    """Make a subscription known. Two of one name are an error: they would share a checkpoint."""
    if subscription.name in _subscriptions:
        raise ValueError(f"There are two subscriptions named {subscription.name!r}: give one of them another name.")
    _subscriptions[subscription.name] = subscription


def subscriptions() -> list[Subscription]:
    """Every subscription, by name."""
    return [_subscriptions[name] for name in sorted(_subscriptions)]


def subscription_named(name: str) -> Subscription:
    """The subscription of this name. Raises UnknownSubscription, which lists those there are."""
    try:
        return _subscriptions[name]
    except KeyError:
        raise UnknownSubscription(
            f"There's no subscription named {name!r}. There are: {', '.join(sorted(_subscriptions))}."
        ) from None


def subscriptions_to(types: Iterable[str]) -> list[Subscription]:
    """Those who consume any of these stored event types."""
    wanted = set(types)
    return [subscription for subscription in _subscriptions.values() if not wanted.isdisjoint(subscription.types)]


def name_of(consumer: type | Callable[..., Any]) -> str:
    """The name that a class or function subscribes by: its app and its own name."""
    return f"{consumer.__module__.partition('.')[0]}.{consumer.__name__}"


def consumed_by(function: Callable[..., Any]) -> tuple[type[Any], ...]:
    """The classes in the annotation of a function's ``event`` parameter: what it consumes."""
    annotation = get_type_hints(function)["event"]
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def accepts(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a function asks for an optional parameter, such as the record around the event."""
    return parameter in inspect.signature(function).parameters
