"""Who emits and who consumes what, read off the code: annotations, and the names that functions use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any, TypeVar

import msgspec

from eventing.domain import Aggregate, Command
from eventing.effects import EffectSubscription
from eventing.handlers import handlers
from eventing.kinds import aggregates, emitted_by
from eventing.policies import PolicySubscription
from eventing.records import event_classes
from eventing.sagas import SagaSubscription
from eventing.subscriptions import Subscription, name_of, subscription_named, subscriptions

T = TypeVar("T")


class EventNode(msgspec.Struct, frozen=True, kw_only=True):
    """An event: the aggregates that record it, and the subscriptions that consume it."""

    event: str
    stored_name: str
    version: int
    emitted_by: list[str]
    consumed_by: list[str]


class CommandNode(msgspec.Struct, frozen=True, kw_only=True):
    """A command: who sends it inside the system, who handles it, and the aggregates it's asked of."""

    command: str
    sent_by: list[str]
    handled_by: list[str]
    asked_of: list[str]


class EventMap(msgspec.Struct, frozen=True, kw_only=True):
    """The whole flow, from command to event to command."""

    commands: list[CommandNode]
    events: list[EventNode]


def event_map(*, only: Sequence[str] = ()) -> EventMap:
    """The map of the program as it is loaded; or of what a few subscriptions consume and send, and no more.

    Raises UnknownSubscription."""
    consumers = [subscription_named(name) for name in only] or subscriptions()
    senders = {each.name: sent_by(each) for each in consumers}
    sent = {command for sent in senders.values() for command in sent}
    commands = sent if only else sent | handlers().keys()
    consumed = {event for each in consumers for event in each.events}
    return EventMap(
        commands=[
            CommandNode(
                command=name_of(command),
                sent_by=[name for name, sent in senders.items() if command in sent],
                handled_by=[name_of(handler.function) for handler in handlers().get(command, [])],
                asked_of=sorted(
                    name_of(kind)
                    for handler in handlers().get(command, [])
                    for kind in named_in(handler.function, Aggregate)  # type: ignore[type-abstract]
                ),
            )
            for command in sorted(commands, key=name_of)
        ],
        events=[
            EventNode(
                event=name_of(event),
                stored_name=event.stored_name,
                version=event.schema_version,
                emitted_by=sorted(name_of(kind) for kind in aggregates() if event in emitted_by(kind)),
                consumed_by=[each.name for each in consumers if event in each.events],
            )
            for event in sorted(event_classes(), key=name_of)
            if event in consumed or not only
        ],
    )


def sent_by(subscription: Subscription) -> list[type[Command]]:
    """The commands that a saga, a policy or an effect sends."""
    if isinstance(subscription, SagaSubscription):
        methods = [value for value in vars(subscription.saga_class).values() if callable(value)]
        return sorted({command for method in methods for command in named_in(method, Command)}, key=name_of)
    if isinstance(subscription, EffectSubscription | PolicySubscription):
        return named_in(subscription.function, Command)
    return []


def named_in(function: Callable[..., Any], kind: type[T]) -> list[type[T]]:
    """The subclasses of ``kind`` that a function's body names."""
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return []
    namespace = function.__globals__
    found = [namespace.get(name) for name in _names(code)]
    return sorted({each for each in found if isinstance(each, type) and issubclass(each, kind)}, key=name_of)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a comprehension or a function inside
            yield from _names(constant)
