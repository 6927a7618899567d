"""Effects: what leaves the database. Each event becomes a job, performed at least once, outside of any transaction.

The same job has the same idempotency key however often it's tried. An attempt that raises, a timeout say, is made
again later; only an outcome is ever recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import NoneType
from typing import NamedTuple, TypeVar, get_type_hints

from django.db import OperationalError, transaction

from eventing import checkpoints, context, deliveries, nudges, sagas, store
from eventing.deliveries import Claim
from eventing.domain import Command
from eventing.handlers import CONFLICT_ATTEMPTS, handler_of, prepare
from eventing.nudges import Nudge
from eventing.records import Record
from eventing.subscriptions import Subscription, accepts, consumed_by, name_of, subscribe

F = TypeVar("F", bound=Callable[..., Command | None])

CHUNK_SECONDS = 0.05  # outcomes are recorded together, but none waits much longer than this
MOST_AT_ONCE = 50


class Delivery(NamedTuple):
    """One attempt to perform an effect."""

    attempt: int
    key: str
    record: Record


def effect(*, queue: str, attempts: int = 0) -> Callable[[F], F]:
    """Perform a function for each event that its parameter ``event`` is annotated with, on workers of ``queue``.

    It may take a second parameter, ``delivery``. The command that it returns records the outcome.
    """

    def register(function: F) -> F:
        subscribe(EffectSubscription(function, queue, attempts))
        return function

    return register


class EffectSubscription(Subscription):
    """An effect's place in the log. It only makes jobs of events, so a slow gateway holds up nobody."""

    kind = "effect"
    starts_at_head = True

    def __init__(self, function: Callable[..., Command | None], queue: str, attempts: int) -> None:
        super().__init__(name=name_of(function), events=consumed_by(function), attempts=attempts)
        self.queue = queue
        self.function = function
        self.has_outcome = get_type_hints(function).get("return") is not NoneType
        self._takes_delivery = accepts(function, "delivery")

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Make a job of each record."""
        context.about_to("schedule an effect")
        deliveries.schedule(self, partition, records)
        transaction.on_commit(lambda: nudges.send([self.nudge_to_perform]), robust=True)
        return len(records)

    def give_up(self, letter: int) -> None:
        """Tell the sagas that wait for the outcome."""
        if self.has_outcome:
            sagas.tell_given_up(letter)

    @property
    def nudge_to_perform(self) -> Nudge:
        """Says that there are jobs."""
        return Nudge(nudges.PERFORM, (self.name,), self.queue)

    def perform(self, claim: Claim) -> Command | None:
        """Make one attempt. Returns the command that records the outcome."""
        context.about_to("perform an effect")
        if self._takes_delivery:
            return self.function(
                claim.record.event,
                Delivery(claim.attempt, f"{self.name}:{claim.record.id}", claim.record),
            )
        return self.function(claim.record.event)


class Outcome(NamedTuple):
    """An attempt that ended well, and the command that says so."""

    claim: Claim
    command: Command | None


def perform_due(effect: EffectSubscription, *, budget: float) -> bool:
    """Perform jobs that are due, for ``budget`` seconds at most. Returns whether there may be more.

    Takes as many at once as can be performed in a moment, so that many fast jobs share one transaction for their
    outcomes, and a slow one keeps no other waiting.
    """
    until, size = time.monotonic() + budget, 1
    while checkpoints.is_running(effect, partition=0):
        claims = deliveries.claim(effect, limit=size)
        if not claims:
            return False
        if len(claims) == size:
            nudges.send([effect.nudge_to_perform])  # there may be more, and another worker that is free
        started = time.monotonic()
        record_outcomes(effect, _attempt(effect, claims))
        each = (time.monotonic() - started) / len(claims)
        size = max(1, min(MOST_AT_ONCE, int(CHUNK_SECONDS / each)))
        if time.monotonic() > until:
            return True
    return False


def _attempt(effect: EffectSubscription, claims: Sequence[Claim]) -> list[Outcome]:
    outcomes = []
    for claim in claims:
        try:
            with context.because_of(context.following(claim.record, actor=effect.name)):
                outcomes.append(Outcome(claim, effect.perform(claim)))
        except Exception as error:
            deliveries.fail(effect, claim, error)
    return outcomes


def record_outcomes(
    effect: EffectSubscription, outcomes: Sequence[Outcome], *, attempts: int = CONFLICT_ATTEMPTS
) -> None:
    """Record outcomes in one transaction; one by one when that fails, so that one bad outcome spoils no other. When
    somebody else wrote the stream first, only the recording is tried again: the effect has been performed."""
    if not outcomes:
        return
    try:
        with transaction.atomic():
            _record(effect, outcomes)
    except OperationalError:
        raise  # the server's fault: the jobs come again when their lease ends, and ask with the same key
    except Exception as error:
        if len(outcomes) > 1:
            for outcome in outcomes:
                record_outcomes(effect, [outcome])
        elif isinstance(error, store.ConflictError) and attempts > 1:
            record_outcomes(effect, outcomes, attempts=attempts - 1)
        else:
            deliveries.fail(effect, outcomes[0].claim, error)


def _record(effect: EffectSubscription, outcomes: Sequence[Outcome]) -> None:
    unrecorded = deliveries.finish_performed([outcome.claim for outcome in outcomes])
    commands = [
        (claim.record, command) for claim, command in outcomes if claim.id in unrecorded and command is not None
    ]
    with store.unit_of_work() as work:
        prepare(work, [command for _, command in commands])
        for record, command in commands:
            with context.because_of(context.following(record, actor=effect.name)):
                handler_of(type(command)).function(command)
