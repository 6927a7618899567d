"""Events that are handled apart from the checkpoint: jobs of effects, and events that failed and those behind them.

The sequence is the unit of order: the first open delivery of a sequence blocks the others, and other sequences flow.
An attempt is counted and committed before it is made. After the last one the delivery is dead and waits for a person.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from eventing.models import Delivery
from eventing.records import EVENT_COLUMNS, Record, records
from eventing.signature import signature_of, storable, told_by
from eventing.statements import run
from eventing.subscriptions import Subscription

logger = logging.getLogger(__name__)

INSERT = """
INSERT INTO eventing_delivery (subscription, partition, sequence, event_id, position, state, attempts, error, traceback,
    due_at)
SELECT %(subscription)s, %(partition)s, sequence, event_id, position, 'waiting', %(attempts)s, %(error)s, %(traceback)s,
    statement_timestamp() + %(delay)s
FROM unnest(%(sequences)s::text[], %(event_ids)s::uuid[], %(positions)s::bigint[])
    AS delivery (sequence, event_id, position)
"""

BLOCKED = """
SELECT DISTINCT sequence FROM eventing_delivery
WHERE subscription = %(subscription)s AND sequence = ANY(%(sequences)s) AND state IN ('waiting', 'dead')
"""

# Takes the first open delivery of each sequence, if it's due, and counts the attempt. Until the lease ends nobody
# else takes it. A delivery that was tried before is taken alone: it may be the one that kills its worker.
CLAIM = """
UPDATE eventing_delivery SET attempts = attempts + 1, attempted_at = statement_timestamp(),
    due_at = statement_timestamp() + %(lease)s
FROM (
    SELECT id AS claimed_id FROM eventing_delivery due
    WHERE subscription = %(subscription)s AND state = 'waiting' AND due_at <= statement_timestamp()
        AND (%(partition)s::int IS NULL OR partition = %(partition)s)
        AND (attempts > 0) = %(again)s
        AND position = (
            SELECT min(open.position) FROM eventing_delivery open
            WHERE open.subscription = due.subscription AND open.sequence = due.sequence
                AND open.state IN ('waiting', 'dead')
        )
    ORDER BY due_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) claimed
WHERE eventing_delivery.id = claimed_id
RETURNING id, event_id, position, sequence, attempts, partition
"""

RECORDS = f"SELECT {EVENT_COLUMNS} FROM eventing_event event WHERE id = ANY(%(ids)s)"

FINISH = """
UPDATE eventing_delivery SET state = 'done', finished_at = statement_timestamp(), error = '', traceback = ''
WHERE id = ANY(%(ids)s) AND state = ANY(%(states)s)
RETURNING id
"""


DEAD = "SELECT event_id, position, sequence FROM eventing_delivery WHERE id = %(id)s AND state = 'dead'"

# Whether somebody whom the stream of an event tells of was forgotten; who is about to be isn't until we have ended.
ABOUT_FORGOTTEN = """
SELECT forgotten_at IS NOT NULL FROM eventing_person_key WHERE person IN (
    SELECT jsonb_array_elements_text(told.metadata -> 'persons') FROM eventing_event failed
    JOIN eventing_event told USING (category, stream_id) WHERE failed.id = %(event_id)s AND told.metadata <> '{}'
) ORDER BY person FOR SHARE
"""


# What is kept of a failed attempt beside the letter, and of the group that it belongs to. A replay's letters are in a
# schema of its own, and nobody's business but the replay's: for them nothing is kept here.
KEEP = """
WITH ours AS (
    SELECT FROM pg_class letters JOIN pg_class attempts USING (relnamespace)
    WHERE letters.oid = 'eventing_delivery'::regclass AND attempts.oid = 'eventing_attempt'::regclass
), letter AS (
    UPDATE eventing_delivery SET signature = %(key)s, failing_since = coalesce(failing_since, statement_timestamp())
    WHERE subscription = %(subscription)s AND position = %(position)s
    RETURNING id, attempts, coalesce(attempted_at, statement_timestamp()) AS began_at
), attempt AS (
    INSERT INTO eventing_attempt (delivery_id, number, began_at, worker, error, traceback)
    SELECT id, attempts, began_at, %(worker)s, %(error)s, %(traceback)s FROM letter, ours
)
INSERT INTO eventing_letter_group AS letter_group
    (signature, subscription, event_type, exception, frame, message, failures)
SELECT %(key)s, %(subscription)s, %(event_type)s, %(exception)s, %(frame)s, %(message)s, 1 FROM ours
ON CONFLICT (signature) DO UPDATE SET last_seen = statement_timestamp(), failures = letter_group.failures + 1
"""

FORGOTTEN = "(forgotten)"


class NeverEnded(Exception):
    """An event was begun as often as it may be, and not ended once: it may kill its worker."""


class Entry(NamedTuple):
    """An event to be delivered apart, which may be one that can't even be read."""

    sequence: str
    event_id: UUID
    position: int


class Claim(NamedTuple):
    """One attempt at a delivery that is ours to make."""

    id: int
    attempt: int
    partition: int
    sequence: str
    position: int
    row: tuple[Any, ...]

    @property
    def record(self) -> Record:
        """What is to be delivered. Raises as `decode_all` does when it can't be read."""
        return records([(*self.row, self.position, self.sequence)])[0]


def schedule(subscription: Subscription, partition: int, records: Sequence[Record]) -> None:
    """Let records be delivered one by one, each when those of its sequence before it are finished."""
    if records:
        _insert(subscription, partition, [Entry(record.key, record.id, record.position) for record in records])


def blocked(subscription: Subscription, records: Sequence[Record]) -> set[str]:
    """The sequences among those of the records that wait for a person or another attempt."""
    if not records:
        return set()
    sequences = list({record.key for record in records})
    return {row[0] for row in run(BLOCKED, {"subscription": subscription.name, "sequences": sequences})}


def park(subscription: Subscription, partition: int, failed: Entry, error: Exception) -> None:
    """Set an event that failed aside, to be tried again; what follows in its sequence waits for it."""
    logger.warning(
        "%s: the event at %s, of %s, is parked: %r", subscription.name, failed.position, failed.sequence, error
    )
    said = _said(error, failed.event_id)
    _insert(subscription, partition, [failed], delay=back_off(1), attempts=1, error=said.error, trace=said.trace)
    _keep(subscription, failed.position, failed.event_id, error, said)


def claim(subscription: Subscription, *, partition: int | None = None, limit: int = 1) -> list[Claim]:
    """Take deliveries that are due: several new ones, or one that was tried before. Those whose every attempt was
    begun and never ended are dead by now."""
    claims = _take(subscription, partition, limit)
    for worn_out in [claim for claim in claims if claim.attempt > subscription.attempts]:
        fail(subscription, worn_out, NeverEnded(f"Begun {subscription.attempts} times and never ended."))
        claims.remove(worn_out)
    return claims


def _take(subscription: Subscription, partition: int | None, limit: int) -> list[Claim]:
    parameters = {"subscription": subscription.name, "partition": partition, "lease": lease()}
    rows = run(CLAIM, parameters | {"again": True, "limit": 1}) or run(
        CLAIM, parameters | {"again": False, "limit": limit}
    )
    events = {row[0]: row for row in run(RECORDS, {"ids": [row[1] for row in rows]})} if rows else {}
    return sorted(
        (
            Claim(delivery_id, attempts, partition, sequence, position, events[event_id])
            for delivery_id, event_id, position, sequence, attempts, partition in rows
        ),
        key=lambda claim: claim.position,
    )


def finish(claims: Sequence[Claim]) -> set[int]:
    """Mark deliveries as done, in the running transaction that does them. Returns the ids of those that still were to
    be done."""
    return _finish(claims, Delivery.State.WAITING)


def finish_performed(claims: Sequence[Claim]) -> set[int]:
    """Mark deliveries as done that have been done already, out there: also those that were given up meanwhile, by a
    person or after the last attempt. Returns the ids of those that nobody else had marked."""
    return _finish(claims, Delivery.State.WAITING, Delivery.State.DEAD, Delivery.State.SKIPPED)


def _finish(claims: Sequence[Claim], *states: Delivery.State) -> set[int]:
    rows = run(FINISH, {"ids": [claim.id for claim in claims], "states": [state.value for state in states]})
    return {row[0] for row in rows}


def fail(subscription: Subscription, claim: Claim, error: Exception) -> None:
    """Note a failed attempt: the next one comes after a while, and after the last the delivery is dead."""
    last = claim.attempt >= subscription.attempts
    logger.log(
        logging.ERROR if last else logging.WARNING,
        "%s: the event at %s, of %s, failed, attempt %s of %s: %r",
        subscription.name,
        claim.position,
        claim.sequence,
        claim.attempt,
        subscription.attempts,
        error,
    )
    with transaction.atomic():
        said = _said(error, claim.row[0])
        still_ours = Delivery.objects.filter(pk=claim.id, state=Delivery.State.WAITING).update(
            state=Delivery.State.DEAD if last else Delivery.State.WAITING,
            due_at=timezone.now() + back_off(claim.attempt),
            error=said.error,
            traceback=said.trace,
        )
        _keep(subscription, claim.position, claim.row[0], error, said)
        if last and still_ours:
            subscription.give_up(claim.id)


def given_up(letter: int) -> Record | None:
    """The event of a letter, as long as it's dead. Raises as `decode_all` does when it can't be read."""
    for event_id, position, sequence in run(DEAD, {"id": letter}):
        (row,) = run(RECORDS, {"ids": [event_id]})
        return records([(*row, position, sequence)])[0]
    return None


def failed() -> QuerySet[Delivery]:
    """What has failed and isn't settled: tried again later, or dead. What waits behind it isn't included."""
    return Delivery.objects.filter(
        Q(state=Delivery.State.DEAD) | Q(state=Delivery.State.WAITING, attempts__gt=0) & ~Q(error="")
    )


def waiting_behind(delivery: Delivery) -> int:
    """How many events of the same sequence wait for this one."""
    return Delivery.objects.filter(
        subscription=delivery.subscription,
        sequence=delivery.sequence,
        position__gt=delivery.position,
        state__in=Delivery.OPEN,
    ).count()


def retry(letters: QuerySet[Delivery]) -> int:
    """Let letters that aren't done be tried again at once, with all their attempts. Returns how many."""
    return letters.exclude(state=Delivery.State.DONE).update(
        state=Delivery.State.WAITING, attempts=0, due_at=Now(), reason="", finished_at=None
    )


def skip(letters: QuerySet[Delivery], *, reason: str) -> int:
    """Give letters up, for a written reason; the next of their sequences go on. Returns how many."""
    return letters.filter(state__in=Delivery.OPEN).update(
        state=Delivery.State.SKIPPED, reason=reason, finished_at=Now()
    )


def lease() -> timedelta:
    """How long a delivery is left to the worker that took it, before another takes it to be dead. No task takes as
    long; should one do, the same idempotency key and the state of the delivery keep it from being done twice."""
    return timedelta(seconds=settings.EVENTING["LEASE_SECONDS"])


def back_off(attempt: int) -> timedelta:
    """How long to wait after this attempt: exponential, with full jitter so that retries don't come in waves."""
    ceiling = min(
        settings.EVENTING["BACKOFF_CAP_SECONDS"], settings.EVENTING["BACKOFF_SECONDS"] * 2 ** min(attempt, 30)
    )
    return timedelta(seconds=random.uniform(0, ceiling))  # noqa: S311 - no secret


def describe(error: Exception) -> str:
    """The error as one line for a list."""
    return f"{type(error).__name__}: {told_by(error)}"[:2000]


def trace_of(error: Exception) -> str:
    """The error's traceback, with the errors that led to it."""
    return storable("".join(traceback.format_exception(error)))[-50_000:]


class Said(NamedTuple):
    """What is kept of an error."""

    error: str
    trace: str


def _said(error: Exception, event_id: UUID) -> Said:
    """Only the error's kind where it may quote somebody who was forgotten since the handler read the event. In the
    transaction that keeps it."""
    if any(forgotten for (forgotten,) in run(ABOUT_FORGOTTEN, {"event_id": event_id})):
        return Said(f"{type(error).__name__}: {FORGOTTEN}", "")
    return Said(describe(error), trace_of(error))


def _keep(subscription: Subscription, position: int, event_id: UUID, error: Exception, said: Said) -> None:
    ((event_type,),) = run("SELECT type FROM eventing_event WHERE id = %(id)s", {"id": event_id})
    signature = signature_of(error, subscription=subscription.name, event_type=event_type)
    run(
        KEEP,
        {
            "key": signature.key,
            "subscription": subscription.name,
            "event_type": event_type,
            "exception": signature.exception,
            "frame": signature.frame,
            "message": FORGOTTEN if said.error.endswith(FORGOTTEN) else signature.message,
            "position": position,
            "worker": f"{socket.gethostname()} {os.getpid()}",
            "error": said.error,
            "traceback": said.trace,
        },
    )


def _insert(
    subscription: Subscription,
    partition: int,
    entries: Sequence[Entry],
    *,
    delay: timedelta = timedelta(0),
    attempts: int = 0,
    error: str = "",
    trace: str = "",
) -> None:
    run(
        INSERT,
        {
            "subscription": subscription.name,
            "partition": partition,
            "sequences": [entry.sequence for entry in entries],
            "event_ids": [entry.event_id for entry in entries],
            "positions": [entry.position for entry in entries],
            "attempts": attempts,
            "error": error,
            "traceback": trace,
            "delay": delay,
        },
    )
