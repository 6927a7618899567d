"""Sagas: their state, the events of the commands they send, their reminders and the checkpoint commit together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload
from uuid import UUID

import msgspec
from django.db import transaction
from django.dispatch import Signal

from eventing import context, deliveries, nudges, personal, store
from eventing.domain import (
    DEADLINE,
    FAILED,
    GIVEN_UP,
    RESUMED,
    Command,
    CommandRejected,
    Event,
    GivenUp,
    Rejected,
    Resumed,
    Saga,
    TimedOut,
)
from eventing.handlers import handler_of, prepare
from eventing.models import SagaInstance
from eventing.records import Record
from eventing.statements import run
from eventing.subscriptions import (
    Reminder,
    Subscription,
    consumed_by,
    name_of,
    subscribe,
    subscription_named,
    subscriptions,
)

S = TypeVar("S", bound=Saga)

logger = logging.getLogger(__name__)

saga_failed = Signal()
"""Sent once the failure is committed, with ``saga`` and ``key`` that name it, and the ``reason`` that it gives."""

# The sagas and what is new in their history, in one statement. A saga that has no deadline of its own any more keeps
# the one that it had, so that one can ask which missed it.
SAVE = """
WITH step AS (
    SELECT * FROM unnest(%(keys)s::uuid[], %(states)s::text[], %(memories)s::text[], %(ended)s::bool[],
        %(correlations)s::uuid[], %(deadlines)s::interval[], %(event_ids)s::uuid[], %(types)s::text[],
        %(positions)s::bigint[], %(abouts)s::text[], %(commands)s::text[], %(late)s::bool[])
        AS step (key, state, memory, ended, correlation_id, deadline, event_id, type, position, about, commands, late)
), saved AS (
    INSERT INTO eventing_saga AS saga (saga, key, state, memory, correlation_id, steps, started_at, updated_at,
        deadline_at, ended_at, failed)
    SELECT %(saga)s, key, state, memory::jsonb, correlation_id, 1, statement_timestamp(), statement_timestamp(),
        statement_timestamp() + deadline, CASE WHEN ended THEN statement_timestamp() END, state = %(failed)s
    FROM step
    ON CONFLICT (saga, key) DO UPDATE
    SET state = excluded.state, memory = excluded.memory, updated_at = excluded.updated_at, steps = saga.steps + 1,
        correlation_id = coalesce(saga.correlation_id, excluded.correlation_id),
        deadline_at = coalesce(excluded.deadline_at, saga.deadline_at),
        ended_at = CASE WHEN saga.state = excluded.state THEN coalesce(saga.ended_at, excluded.ended_at)
                   ELSE excluded.ended_at END,
        failed = excluded.failed
    RETURNING id, key, steps
)
INSERT INTO eventing_saga_step (instance_id, number, event_id, type, position, about, commands, state, memory, late,
    taken_at)
SELECT id, steps, event_id, type, position, about, commands::jsonb, state, memory::jsonb, late, statement_timestamp()
FROM saved JOIN step USING (key)
"""

LOAD = "SELECT key, memory::text FROM eventing_saga WHERE saga = %(saga)s AND key = ANY(%(keys)s)"

REMIND = """
INSERT INTO eventing_timer (saga, key, about, partition, due_at, correlation_id)
SELECT %(saga)s, key, about, %(partition)s, statement_timestamp() + after, correlation_id
FROM unnest(%(keys)s::uuid[], %(abouts)s::text[], %(afters)s::interval[], %(correlations)s::uuid[])
    AS timer (key, about, after, correlation_id)
ON CONFLICT (saga, key, about) DO UPDATE SET due_at = excluded.due_at, attempts = 0, error = ''
"""

IS_UUID = "~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"

# A reminder that is due at once, to each saga that shares the event which a letter is about.
TELL_GIVEN_UP = f"""
INSERT INTO eventing_timer (saga, key, about, partition, due_at, correlation_id)
SELECT saga.saga, saga.key, %(about)s, get_byte(sha256(convert_to(saga.key::text, 'UTF8')), 0) %% hearing.partitions,
    statement_timestamp(), event.correlation_id
FROM eventing_delivery letter
JOIN eventing_event event ON event.id = letter.event_id
CROSS JOIN unnest(%(sagas)s::text[], %(fields)s::text[], %(partitions)s::int[]) AS hearing (saga, field, partitions)
JOIN eventing_saga saga ON saga.saga = hearing.saga
    AND saga.key = CASE WHEN event.data ->> hearing.field {IS_UUID} THEN (event.data ->> hearing.field)::uuid END
WHERE letter.id = %(letter)s
ON CONFLICT (saga, key, about) DO UPDATE SET due_at = excluded.due_at, attempts = 0, error = ''
RETURNING saga, partition
"""

# But neither a person's wish nor news of what was given up, which reach an ended saga too.
FORGET = """
DELETE FROM eventing_timer
WHERE saga = %(saga)s AND key = ANY(%(keys)s) AND about <> %(resumed)s AND NOT starts_with(about, %(given_up)s)
"""

# The first reminder that is due, of a saga that no parked event blocks, once the partition has seen everything. It is
# put off, and its attempt counted, before it is handled: one which fails, or takes its worker with it, keeps no other
# waiting, and comes again ever more seldom, an hour apart at the most.
PUT_OFF = """
UPDATE eventing_timer SET attempts = attempts + 1,
    due_at = statement_timestamp() + least(%(delay)s * 2 ^ least(attempts, 30), interval '1 hour')
WHERE id = (
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
RETURNING id, due_at, attempts
"""
DELAY = timedelta(seconds=10)

# Unless the saga has replaced it meanwhile. One that wasn't tried after all has lost neither an attempt nor much time.
PUT_BACK = """
UPDATE eventing_timer SET error = CASE WHEN %(tried)s THEN %(error)s ELSE error END,
    attempts = attempts - CASE WHEN %(tried)s THEN 0 ELSE 1 END,
    due_at = CASE WHEN %(tried)s THEN due_at ELSE statement_timestamp() + interval '1 second' END
WHERE id = %(id)s AND due_at = %(due_at)s
"""

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
    """A saga that has something new to react to, and why; what it was ``before``. An event has a ``position``."""

    saga: Saga
    event: Any
    cause: context.Cause
    before: str
    position: int | None = None


class Sent(NamedTuple):
    """A command of a saga, and why it was refused if it was."""

    command: Command
    refused: str = ""


class SagaSubscription(Subscription):
    """A saga's place in the log: ordered by what its events are correlated by."""

    kind = "saga"
    starts_at_head = True

    def __init__(self, saga_class: type[Saga], partitions: int) -> None:
        consumed = consumed_by(saga_class.react)
        super().__init__(
            name=name_of(saga_class),
            events=[event for event in consumed if issubclass(event, Event)],
            key=saga_class.correlation,
            partitions=partitions,
        )
        self.saga_class = saga_class
        self.hears_rejections = CommandRejected in consumed
        self.hears_given_up = GivenUp in consumed
        self.can_resume = Resumed in consumed

    @property
    def batch(self) -> int:
        """Smaller than a projection's: each event may lead to several others."""
        return min(super().batch, 100)

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Let sagas react to records, as long as no saga comes twice: its commands have to be carried out first."""
        context.about_to("move a saga")
        sagas = self._load({UUID(record.key) for record in records})
        steps: dict[UUID, Step] = {}
        handled = 0
        for record in records:
            key = UUID(record.key)
            if key in steps:
                break
            handled += 1
            running = sagas.get(key)
            if running is None:
                if not self.saga_class.is_begun_by(record.event):
                    continue  # it began before the saga was there, or belongs to somebody else
                running = self.saga_class(id=key)
            cause = context.following(record, actor=self.name)
            steps[key] = Step(running, record.event, cause, running.state, record.position)
        self._take(list(steps.values()), partition)
        return handled

    def due(self, partition: int) -> Reminder | None:
        """The reminder that is due first."""
        for reminder in run(PUT_OFF, {"saga": self.name, "partition": partition, "delay": DELAY}):
            return Reminder(*reminder)
        return None

    def remind(self, reminder: Reminder, partition: int) -> None:
        """Let a saga react to its reminder, in the running transaction."""
        for key, about, correlation_id in run(TAKE, {"id": reminder.id, "due_at": reminder.due_at}):
            cause = context.Cause(correlation_id=correlation_id, actor=self.name)
            event = _event_about(about)
            sagas = self._load([key]) if event else {}
            self._take([Step(running, event, cause, running.state) for running in sagas.values()], partition)

    def put_back(self, reminder: Reminder, error: Exception | None = None) -> None:
        """Keep a reminder for later. Of an error only the kind is kept: what it says may tell of a person."""
        said = {"tried": error is not None, "error": type(error).__qualname__}
        run(PUT_BACK, {"id": reminder.id, "due_at": reminder.due_at, **said})

    def _take(self, steps: Sequence[Step], partition: int) -> None:
        if not steps:
            return
        commands = [list(step.saga.react(step.event)) for step in steps]
        sent: list[list[Sent]] = []
        with store.unit_of_work() as work:
            prepare(work, [command for asked in commands for command in asked])
            for step, asked in zip(steps, commands, strict=True):
                with context.because_of(step.cause):
                    sent.append([each for command in asked for each in self._send(work, step.saga, command)])
        self._save(steps, sent, partition)
        for step in steps:
            if step.saga.state == FAILED and (step.before != FAILED or isinstance(step.event, Resumed)):
                transaction.on_commit(partial(_tell_of_failure, self.name, step.saga.id, step.saga.reason))

    def _send(self, work: store.UnitOfWork, saga: Saga, command: Command) -> list[Sent]:
        """Carry out a command; when it's refused, those that the saga answers with too. Returns them in order."""
        try:
            with work.attempt():
                handler_of(type(command)).function(command)
            return [Sent(command)]
        except Rejected as rejection:
            if not self.hears_rejections:
                raise
            reason = str(rejection)
            answers = list(saga.react(CommandRejected(command=command, reason=reason)))
            return [Sent(command, reason), *(each for answer in answers for each in self._send(work, saga, answer))]

    def _load(self, keys: Collection[UUID]) -> dict[UUID, Saga]:
        rows = run(LOAD, {"saga": self.name, "keys": list(keys)})
        memories = personal.opened([memory for _, memory in rows])
        return {
            key: msgspec.json.decode(memory, type=self.saga_class)
            for (key, _), memory in zip(rows, memories, strict=True)
        }

    def _save(self, steps: Sequence[Step], sent: Sequence[Sequence[Sent]], partition: int) -> None:
        reminders = self._reminders(steps)
        deadlines = {key: after for key, about, after, _ in reminders if about == DEADLINE}
        sealed = personal.seal([*(step.saga for step in steps), *([each.command for each in some] for some in sent)])
        ended = [step.saga.state in self.saga_class.final for step in steps]
        run(
            SAVE,
            {
                "saga": self.name,
                "failed": FAILED,
                "keys": [step.saga.id for step in steps],
                "states": [step.saga.state for step in steps],
                "memories": [msgspec.json.encode(memory.data).decode() for memory in sealed[: len(steps)]],
                "ended": ended,
                "correlations": [step.cause.correlation_id for step in steps],
                "deadlines": [deadlines.get(step.saga.id) for step in steps],
                "event_ids": [step.cause.causation_id for step in steps],
                "types": [getattr(type(step.event), "stored_name", "") for step in steps],
                "positions": [step.position for step in steps],
                "abouts": [_about(step.event) for step in steps],
                "commands": [
                    _told(some, commands.data) for some, commands in zip(sent, sealed[len(steps) :], strict=True)
                ],
                "late": [
                    has_ended and step.saga.state == step.before and not some
                    for step, has_ended, some in zip(steps, ended, sent, strict=True)
                ],
            },
        )
        if reminders:
            run(REMIND, {"saga": self.name, "partition": partition, **_columns(reminders)})
        gone = [step.saga.id for step, has_ended in zip(steps, ended, strict=True) if has_ended]
        if gone:
            run(FORGET, {"saga": self.name, "keys": gone, "resumed": RESUMED, "given_up": GIVEN_UP})

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


def tell_given_up(letter: int) -> None:
    """Let the sagas that share the event of a dead letter hear of it, in the transaction in which it died."""
    hearing = [each for each in subscriptions() if isinstance(each, SagaSubscription) and each.hears_given_up]
    told = run(
        TELL_GIVEN_UP,
        {
            "letter": letter,
            "about": f"{GIVEN_UP}{letter}",
            "sagas": [each.name for each in hearing],
            "fields": [each.key for each in hearing],
            "partitions": [each.partitions for each in hearing],
        },
    )
    woken = [subscription_named(saga).nudge_for(partition) for saga, partition in told]
    transaction.on_commit(partial(nudges.send, woken), robust=True)


def _event_about(about: str) -> TimedOut | Resumed | GivenUp | None:
    """What a saga is to hear; nothing of a letter that isn't given up any more."""
    if about == RESUMED:
        return Resumed()
    if not about.startswith(GIVEN_UP):
        return TimedOut(about=about)
    letter = int(about.removeprefix(GIVEN_UP))
    record = deliveries.given_up(letter)
    return GivenUp(event=record.event, letter=letter) if record else None


def _about(event: Any) -> str:
    match event:
        case TimedOut():
            return event.about
        case Resumed():
            return RESUMED
        case GivenUp():
            return f"{GIVEN_UP}{event.letter}"
        case _:
            return ""


def _told(sent: Sequence[Sent], sealed: Sequence[Any]) -> str:
    """Commands as the history has them."""
    told = [
        {"name": name_of(type(each.command)), "data": data, "refused": each.refused}
        for each, data in zip(sent, sealed, strict=True)
    ]
    return msgspec.json.encode(told).decode()


def _tell_of_failure(saga: str, key: UUID, reason: str) -> None:
    logger.error("%s %s has failed, and waits for a person: %s", saga, key, reason or "it gives no reason")
    saga_failed.send_robust(SagaSubscription, saga=saga, key=key, reason=reason)


def _columns(reminders: Sequence[tuple[UUID, str, timedelta, UUID]]) -> dict[str, list[Any]]:
    keys, abouts, afters, correlations = map(list, zip(*reminders, strict=True))
    return {"keys": keys, "abouts": abouts, "afters": afters, "correlations": correlations}
