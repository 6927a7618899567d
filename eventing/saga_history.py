"""A saga's history as people look at it: step by step, with what each changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eventing import personal
from eventing.domain import GIVEN_UP
from eventing.models import SagaInstance, SagaStep, Timer
from eventing.resuming import saga_named
from eventing.subscriptions import UnknownSubscription

ITS_OWN = frozenset({"id", "state", "reminders"})  # what stands beside the memory already, or isn't part of it


class CommandShown(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was sent, and why it was refused if it was."""

    name: str
    data: dict[str, Any]
    refused: str


class StepShown(msgspec.Struct, frozen=True, kw_only=True):
    """What came in, ``event`` by its stored name or ``reminder`` by its subject; the commands that went out; the state
    and the memory after it. ``changed`` are the fields of the memory that it changed, ``late`` a step of an ended saga
    that did nothing."""

    number: int
    taken_at: datetime
    event: str
    event_id: UUID | None
    position: int | None
    reminder: str
    commands: list[CommandShown]
    state: str
    memory: dict[str, Any]
    changed: list[str]
    late: bool

    @property
    def letter(self) -> int | None:
        """The number of the letter that it heard was given up."""
        return int(self.reminder.removeprefix(GIVEN_UP)) if self.reminder.startswith(GIVEN_UP) else None


class ReminderShown(msgspec.Struct, frozen=True, kw_only=True):
    """A reminder that is set."""

    about: str
    due_at: datetime


def history_of(saga: SagaInstance, *, with_personal_data: bool) -> list[StepShown]:
    """All steps, from the first; personal fields are hidden from those who may not see them."""
    steps = list(saga.history.order_by("number"))
    told = personal.readable([[step.memory, step.commands] for step in steps], with_personal_data=with_personal_data)
    shown, before = [], _at_first(saga)
    for step, (remembered, commands) in zip(steps, told, strict=True):
        memory = {name: value for name, value in remembered.items() if name not in ITS_OWN}
        shown.append(
            _shown(step, memory, commands, changed=[name for name in memory if memory[name] != before.get(name)])
        )
        before = memory
    return shown


def memory_of(saga: SagaInstance, *, with_personal_data: bool) -> dict[str, Any]:
    """What it remembers now."""
    (remembered,) = personal.readable([saga.memory], with_personal_data=with_personal_data)
    return {name: value for name, value in remembered.items() if name not in ITS_OWN}


def reminders_of(saga: SagaInstance) -> list[ReminderShown]:
    """The reminders that are set, the next first."""
    timers = Timer.objects.filter(saga=saga.saga, key=saga.key).order_by("due_at")
    return [ReminderShown(about=timer.about, due_at=timer.due_at) for timer in timers]


def _at_first(saga: SagaInstance) -> dict[str, Any]:
    """What a saga remembers before anything has happened; nothing of one that the program doesn't define any more."""
    try:
        fields: dict[str, Any] = msgspec.to_builtins(saga_named(saga.saga).saga_class(id=saga.key))
    except UnknownSubscription:
        return {}
    return fields


def _shown(step: SagaStep, memory: dict[str, Any], commands: list[Any], *, changed: list[str]) -> StepShown:
    return StepShown(
        number=step.number,
        taken_at=step.taken_at,
        event=step.type,
        event_id=step.event_id,
        position=step.position,
        reminder=step.about,
        commands=msgspec.convert(commands, list[CommandShown]),
        state=step.state,
        memory=memory,
        changed=changed,
        late=step.late,
    )
