"""Policies: whenever this has happened, that is to be done. What they ask for and their checkpoint commit together.

A policy remembers nothing. What has to remember what came before is a saga.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from eventing import context, store
from eventing.domain import Command
from eventing.handlers import handler_of, prepare
from eventing.records import Record
from eventing.subscriptions import Subscription, consumed_by, name_of, subscribe

F = TypeVar("F", bound=Callable[..., Iterator[Command]])


@overload
def policy(function: F) -> F: ...
@overload
def policy(*, partitions: int) -> Callable[[F], F]: ...
def policy(function: F | None = None, *, partitions: int = 1) -> Any:
    """Let a function answer each event that its parameter ``event`` is annotated with by the commands that it yields.

    A command that is refused parks the event, for a person to see.
    """

    def register(function: F) -> F:
        subscribe(PolicySubscription(function, partitions))
        return function

    return register if function is None else register(function)


class PolicySubscription(Subscription):
    """A policy's place in the log: in order within each stream."""

    kind = "policy"
    starts_at_head = True

    def __init__(self, function: Callable[..., Iterator[Command]], partitions: int) -> None:
        super().__init__(name=name_of(function), events=consumed_by(function), partitions=partitions)
        self.function = function

    @property
    def batch(self) -> int:
        """Smaller than a projection's: each event may lead to several others."""
        return min(super().batch, 100)

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Carry out what the records ask for, one after the other."""
        context.about_to("follow a policy")
        asked = [(record, command) for record in records for command in self.function(record.event)]
        with store.unit_of_work() as work:
            prepare(work, [command for _, command in asked])
            for record, command in asked:
                with context.because_of(context.following(record, actor=self.name)):
                    handler_of(type(command)).function(command)
        return len(records)
