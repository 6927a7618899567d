"""Sagas: their state, the events of the commands they send, their reminders and the checkpoint commit together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, overload
from uuid import UUID

import msgspec

from eventing import context, personal, store
from eventing.domain import Command, CommandRejected, Rejected, Saga, TimedOut
from eventing.handlers import handler_of, prepare
from eventing.models import SagaInstance
from eventing.records import Record
from eventing.statements import run
from eventing.subscriptions import Reminder, Subscription, consumed_by, name_of, subscribe

S = TypeVar("S", bound=Saga)

SAVE = """
INSERT INTO eventing_saga (saga, key, state, memory, started_at, updated_at)
SELECT %(saga)s, key, state, memory::jsonb, statement_timestamp(), statement_timestamp()
FROM unnest(%(keys)s::uuid[], %(states)s::text[], %(memories)s::text[]) AS saga (key, state, memory)
ON CONFLICT (saga, key) DO UPDATE
SET state = excluded.state, memory = excluded.memory, updated_at = excluded.updated_at
"""

LOAD = "SELECT key, memory::text FROM eventing_saga WHERE saga = %(saga)s AND key = ANY(%(keys)s)"

REMIND = """
INSERT INTO eventing_timer (saga, key, about, partition, due_at, correlation_id)
SELECT %(saga)s, key, about, %(partition)s, statement_timestamp() + after, correlation_id
FROM unnest(%(keys)s::uuid[], %(abouts)s::text[], %(afters)s::interval[], %(correlations)s::uuid[])
    AS timer (key, about, after, correlation_id)
ON CONFLICT (saga, key, about) DO UPDATE SET due_at = excluded.due_at
"""

FORGET = "DELETE FROM eventing_timer WHERE saga = %(saga)s AND key = ANY(%(keys)s)"

# The first reminder that is due, of a saga that no parked event blocks, once the partition has seen everything. It is
# put off before it is handled, so that one which fails, or takes its worker with it, keeps no other waiting.
PUT_OFF = """
UPDATE eventing_timer SET due_at = statement_timestamp() + %(delay)s WHERE id = (
    SELECT id FROM eventing_timer timer
    WHERE saga = %(saga)s AND partition = %(partition)s AND due_at <= statement_timestamp()
        AND EXISTS (
            SELECT FROM eventing_checkpoint
            WHERE subscription = %(saga)s AND partition = %(partition)s AND state = 'running'
                AND position >= (SELECT coalesce(max(position), 0) FROM eventing_log)
        )
        AND NOT EXISTS (
            SELECT FROM eventing_delivery
            WHERE subscription = %(saga)s AND sequence = timer.key::text AND state IN ('waiting', 'dead')
        )
    ORDER BY due_at LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, due_at
"""
DELAY = timedelta(seconds=10)

# Unless the saga has replaced it meanwhile, or ended.
TAKE = """
DELETE FROM eventing_timer WHERE id = %(id)s AND due_at = %(due_at)s RETURNING key, about, correlation_id
"""


@overload
def saga(saga_class: type[S]) -> type[S]: ...
@overload
def saga(*, partitions: int) -> Callable[[type[S]], type[S]]: ...
def saga(saga_class: type[S] | None = None, *, partitions: int = 4) -> Any:
    """Let a saga consume the events that its ``react`` is annotated with."""

    def register(saga_class: type[S]) -> type[S]:
        subscribe(SagaSubscription(saga_class, partitions))
        return saga_class

    return register if saga_class is None else register(saga_class)


class Step(NamedTuple):
    """A saga that has something new to react to, and why."""

    saga: Saga
    event: Any
    cause: context.Cause


class SagaSubscription(Subscription):
    """A saga's place in the log: ordered by what its events are correlated by."""

    kind = "saga"
    starts_at_head = True

    def __init__(self, saga_class: type[Saga], partitions: int) -> None:
        consumed = consumed_by(saga_class.react)
        super().__init__(
            name=name_of(saga_class),
            events=[event for event in consumed if event not in (TimedOut, CommandRejected)],
            key=saga_class.correlation,
            partitions=partitions,
        )
        self.saga_class = saga_class
        self.hears_rejections = CommandRejected in consumed

    @property
    def batch(self) -> int:
        """Smaller than a projection's: each event may lead to several others."""
        return min(super().batch, 100)

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Let sagas react to records, as long as no saga comes twice: its commands have to be carried out first."""
        context.about_to("move a saga")
        first = _each_saga_once(records)
        sagas = self._load([UUID(record.key) for record in first])
        steps = []
        for record in first:
            key = UUID(record.key)
            running = sagas.get(key)
            if running is None:
                if not self.saga_class.is_begun_by(record.event):
                    continue  # it began before the saga was there, or belongs to somebody else
                running = self.saga_class(id=key)
            steps.append(Step(running, record.event, context.following(record, actor=self.name)))
        self._take(steps, partition)
        return len(first)

    def due(self, partition: int) -> Reminder | None:
        """The reminder that is due first."""
        for timer_id, due_at in run(PUT_OFF, {"saga": self.name, "partition": partition, "delay": DELAY}):
            return Reminder(timer_id, due_at)
        return None

    def remind(self, reminder: Reminder, partition: int) -> None:
        """Let a saga react to its reminder, in the running transaction."""
        for key, about, correlation_id in run(TAKE, {"id": reminder.id, "due_at": reminder.due_at}):
            cause = context.Cause(correlation_id=correlation_id, actor=self.name)
            sagas = self._load([key])
            self._take([Step(running, TimedOut(about=about), cause) for running in sagas.values()], partition)

    def _take(self, steps: Sequence[Step], partition: int) -> None:
        commands = [list(step.saga.react(step.event)) for step in steps]
        with store.unit_of_work() as work:
            prepare(work, [command for sent in commands for command in sent])
            for step, sent in zip(steps, commands, strict=True):
                with context.because_of(step.cause):
                    for command in sent:
                        self._send(work, step.saga, command)
        self._save(steps, partition)

    def _send(self, work: store.UnitOfWork, saga: Saga, command: Command) -> None:
        try:
            with work.attempt():
                handler_of(type(command)).function(command)
        except Rejected as rejection:
            if not self.hears_rejections:
                raise
            for answer in saga.react(CommandRejected(command=command, reason=str(rejection))):
                self._send(work, saga, answer)

    def _load(self, keys: Sequence[UUID]) -> dict[UUID, Saga]:
        rows = run(LOAD, {"saga": self.name, "keys": list(keys)})
        memories = personal.opened([memory for _, memory in rows])
        return {
            key: msgspec.json.decode(memory, type=self.saga_class)
            for (key, _), memory in zip(rows, memories, strict=True)
        }

    def _save(self, steps: Sequence[Step], partition: int) -> None:
        if not steps:
            return
        reminders = self._reminders(steps)
        sealed = personal.seal([step.saga for step in steps])
        run(
            SAVE,
            {
                "saga": self.name,
                "keys": [step.saga.id for step in steps],
                "states": [step.saga.state for step in steps],
                "memories": [msgspec.json.encode(memory.data).decode() for memory in sealed],
            },
        )
        if reminders:
            run(REMIND, {"saga": self.name, "partition": partition, **_columns(reminders)})
        ended = [step.saga.id for step in steps if step.saga.state in self.saga_class.final]
        if ended:
            run(FORGET, {"saga": self.name, "keys": ended})

    def _reminders(self, steps: Iterable[Step]) -> list[tuple[UUID, str, timedelta, UUID]]:
        """The reminders that sagas asked for. They become rows, so they're no part of the memory."""
        asked = []
        for step in steps:
            for about, after in step.saga.reminders.items():
                asked.append((step.saga.id, about, after, step.cause.correlation_id))
            step.saga.reminders = {}
        return asked


def instance(saga_class: type[Saga], key: UUID) -> SagaInstance | None:
    """What is stored of a saga, to look at."""
    return SagaInstance.objects.filter(saga=name_of(saga_class), key=key).first()


def _columns(reminders: Sequence[tuple[UUID, str, timedelta, UUID]]) -> dict[str, list[Any]]:
    keys, abouts, afters, correlations = map(list, zip(*reminders, strict=True))
    return {"keys": keys, "abouts": abouts, "afters": afters, "correlations": correlations}


def _each_saga_once(records: Sequence[Record]) -> list[Record]:
    seen: set[str] = set()
    first: list[Record] = []
    for record in records:
        if record.key in seen:
            break
        seen.add(record.key)
        first.append(record)
    return first
