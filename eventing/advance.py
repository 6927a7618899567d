"""Moves one partition of a subscription along the log, exactly once for everything in the database.

A batch is counted, then handled, then its checkpoint is moved in the transaction that did the work. A batch that
fails, or that takes its worker with it, is taken one event at a time; the event that still fails is parked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import OperationalError, transaction

from eventing import checkpoints, deliveries
from eventing.handlers import CONFLICT_ATTEMPTS
from eventing.models import Checkpoint
from eventing.records import EVENT_COLUMNS, Record, records
from eventing.statements import run
from eventing.store import ConflictError
from eventing.subscriptions import Reminder, Subscription

logger = logging.getLogger(__name__)

NARROWEST = 500  # positions of the log that are looked at together
SAMPLES = 16  # events of a batch whose lag is kept
DEADLY_ATTEMPTS = 3  # an event that was begun this often and never ended is parked without being tried again

# Counts the attempt before anything is handled, so that a handler that kills its worker is found out. This row is
# worth no wait for the disk: after a crash of the server the count is lost, and the work with it. Who has just begun
# is about to hold the row; only when he doesn't for a second has he died, and is it an attempt that never ended.
BEGIN = """
WITH lazily AS (SELECT set_config('synchronous_commit', 'off', true)),
head AS (SELECT coalesce(max(position), 0) AS position FROM eventing_log)
UPDATE eventing_checkpoint SET attempts = attempts + 1, begun_at = statement_timestamp(),
    careful_until = CASE WHEN attempts > 0 THEN greatest(careful_until, eventing_checkpoint.position + %(batch)s)
                    ELSE careful_until END
FROM lazily, head
WHERE id = (
    SELECT id FROM eventing_checkpoint
    WHERE subscription = %(subscription)s AND partition = %(partition)s AND state = %(state)s
        AND (begun_at IS NULL OR begun_at < statement_timestamp() - interval '1 second')
    FOR UPDATE SKIP LOCKED
) AND eventing_checkpoint.position < least(head.position, %(until)s)
RETURNING eventing_checkpoint.position, attempts, careful_until, least(head.position, %(until)s)
"""

# Holds the partition until the end of the transaction, unless it was stopped or somebody else has moved it since.
HOLD = """
SELECT id FROM eventing_checkpoint
WHERE subscription = %(subscription)s AND partition = %(partition)s AND state = %(state)s AND position = %(position)s
FOR UPDATE
"""

# The partition of an event comes from the first byte of a hash that is the same on every server and version.
_READ = """
SELECT {columns}, log.position, {key} AS key
FROM eventing_log log JOIN eventing_event event ON event.id = log.event_id
WHERE log.position > %(after)s AND log.position <= %(until)s {types}
    AND get_byte(sha256(convert_to({key}, 'UTF8')), 0) %% %(partitions)s = %(partition)s
ORDER BY log.position LIMIT %(limit)s
"""
_STREAM, _OF_TYPES = "event.category || '-' || event.stream_id", "AND log.type = ANY(%(types)s)"
READ_BY_STREAM = _READ.format(columns=EVENT_COLUMNS, key=_STREAM, types=_OF_TYPES)
READ_BY_FIELD = _READ.format(columns=EVENT_COLUMNS, key="(event.data ->> %(key)s)", types=_OF_TYPES)
READ_ALL = _READ.format(columns=EVENT_COLUMNS, key=_STREAM, types="")

# Waits for the batch that is under way, so that the rows which a partition writes have one writer at a time.
WAIT = """
SELECT id FROM eventing_checkpoint WHERE subscription = %(subscription)s AND partition = %(partition)s FOR UPDATE
"""

# Holds a partition that has seen everything. What has happened comes before what didn't happen in time.
IDLE = """
SELECT id FROM eventing_checkpoint
WHERE subscription = %(subscription)s AND partition = %(partition)s AND state = 'running'
    AND position >= (SELECT coalesce(max(position), 0) FROM eventing_log)
FOR UPDATE SKIP LOCKED
"""

# The clock that events are recorded by says how long they took to get here; it's about to commit.
MOVE = """
UPDATE eventing_checkpoint
SET position = %(position)s, attempts = 0, begun_at = NULL, handled = handled + %(handled)s,
    moved_at = clock_timestamp(),
    rate = CASE WHEN %(handled)s > 0 THEN %(rate)s ELSE rate END,
    lags = (array(
        SELECT least(extract(epoch FROM clock_timestamp() - recorded_at) * 1000, 2147483647)::integer
        FROM unnest(%(recorded)s::timestamptz[]) AS recorded_at
    ) || lags)[:128]
WHERE subscription = %(subscription)s AND partition = %(partition)s
"""

# The batch failed and its worker lives: the next one, which is careful, needn't wait.
GIVE_UP = """
UPDATE eventing_checkpoint SET begun_at = NULL
WHERE subscription = %(subscription)s AND partition = %(partition)s AND position = %(position)s
"""


class Begun(NamedTuple):
    """A batch that was counted: events after ``position`` up to ``head``, in order, ``size`` at most."""

    position: int
    attempts: int
    head: int
    size: int

    @property
    def is_deadly(self) -> bool:
        """Whether the one event that comes next has cost too many workers already."""
        return self.size == 1 and self.attempts > DEADLY_ATTEMPTS


def advance(
    subscription: Subscription,
    partition: int,
    *,
    state: Checkpoint.State = Checkpoint.State.RUNNING,
    batch: int = 0,
    until: int = 2**62,
) -> bool:
    """Handle the next batch of events up to position ``until``. Returns whether it's worth going on: not when there
    is nothing to do, or somebody else is at it. Raises OperationalError when the server can't be worked with."""
    begun = _begin(subscription, partition, state, batch or subscription.batch, until)
    if begun is None:
        return False
    try:
        if begun.is_deadly:
            raise deliveries.NeverEnded(f"Begun {begun.attempts - 1} times and never ended. It may kill its worker.")
        return _handle(subscription, partition, state, begun)
    except OperationalError:
        raise  # the server's fault, not the event's
    except Exception as error:
        if begun.size > 1 or isinstance(error, ConflictError):
            logger.info("%s/%s goes one by one, because a batch failed: %r", subscription.name, partition, error)
            with subscription.transaction(needed=False):
                run(GIVE_UP, {"subscription": subscription.name, "partition": partition, "position": begun.position})
            return True
        return _park(subscription, partition, state, begun, error)


def retry_due(subscription: Subscription, partition: int) -> bool:
    """Try a parked event whose time has come, or that nothing blocks any more. Returns whether there was one."""
    if not checkpoints.is_running(subscription, partition):
        return False
    claims = deliveries.claim(subscription, partition=partition)
    for claim in claims:
        try:
            with transaction.atomic():
                run(WAIT, {"subscription": subscription.name, "partition": partition})
                if deliveries.finish([claim]):
                    subscription.handle([claim.record], partition)
        except OperationalError:
            raise
        except Exception as error:
            deliveries.fail(subscription, claim, error)
    return bool(claims)


def remind_due(subscription: Subscription, partition: int) -> bool:
    """Handle a reminder that is due, unless there are events that come first. Returns whether there was one."""
    reminder = subscription.due(partition)
    if reminder is None:
        return False
    try:
        _remind(subscription, partition, reminder)
    except OperationalError:
        raise  # the server's fault, not the reminder's
    except Exception as error:
        level = logging.ERROR if reminder.attempt >= subscription.attempts else logging.WARNING
        logger.log(level, "%s failed at a reminder, attempt %s", subscription.name, reminder.attempt, exc_info=True)
        subscription.put_back(reminder, error)
    return True


def _remind(subscription: Subscription, partition: int, reminder: Reminder, attempts: int = CONFLICT_ATTEMPTS) -> None:
    try:
        with transaction.atomic():
            if run(IDLE, {"subscription": subscription.name, "partition": partition}):
                subscription.remind(reminder, partition)
            else:
                subscription.put_back(reminder)
    except ConflictError:  # somebody else wrote a stream first
        if attempts == 1:
            raise
        _remind(subscription, partition, reminder, attempts - 1)


def read(subscription: Subscription, partition: int, *, after: int, until: int, limit: int) -> list[Record]:
    """The next records that concern a partition, up to position ``until``, which isn't beyond the head."""
    return records(_rows(subscription, partition, after=after, until=until, limit=limit))


def _rows(subscription: Subscription, partition: int, *, after: int, until: int, limit: int) -> list[tuple[Any, ...]]:
    """Looks at a window of the log at a time, wider each time while too little is found: whatever plan the server
    chooses, it doesn't look at all that is left of the log for the sake of one batch."""
    rows: list[tuple[Any, ...]] = []
    window = max(limit * subscription.partitions, NARROWEST)
    while len(rows) < limit and after < until:
        end = min(after + window, until)
        rows += run(
            READ_ALL if subscription.hears_of_all else READ_BY_FIELD if subscription.key else READ_BY_STREAM,
            {
                "after": after,
                "until": end,
                "types": subscription.types,
                "partitions": subscription.partitions,
                "partition": partition,
                "limit": limit - len(rows),
                **({"key": subscription.key} if subscription.key else {}),
            },
        )
        after, window = end, window * 2
    return rows


def _begin(subscription: Subscription, partition: int, state: Checkpoint.State, batch: int, until: int) -> Begun | None:
    with subscription.transaction(needed=False):
        rows = run(
            BEGIN,
            {
                "subscription": subscription.name,
                "partition": partition,
                "state": state,
                "batch": batch,
                "until": until,
            },
        )
    if not rows:
        return None
    position, attempts, careful_until, head = rows[0]
    return Begun(position, attempts, head, 1 if position < careful_until else batch)


def _handle(subscription: Subscription, partition: int, state: Checkpoint.State, begun: Begun) -> bool:
    started = time.monotonic()
    with subscription.transaction():
        if not _hold(subscription, partition, state, begun):
            return False
        batch = read(subscription, partition, after=begun.position, until=begun.head, limit=begun.size)
        blocked = deliveries.blocked(subscription, batch)
        free = [record for record in batch if record.key not in blocked]
        handled = subscription.handle(free, partition) if free else 0
        done = batch if handled == len(free) else batch[: batch.index(free[handled])]
        deliveries.schedule(subscription, partition, [record for record in done if record.key in blocked])
        seen_all = len(done) == len(batch) < begun.size
        position = begun.head if seen_all else done[-1].position
        live = done if state == Checkpoint.State.RUNNING else []
        _move(subscription, partition, position, handled, time.monotonic() - started, recorded=_sample(live))
    return True


def _park(subscription: Subscription, partition: int, state: Checkpoint.State, begun: Begun, error: Exception) -> bool:
    with subscription.transaction():
        if not _hold(subscription, partition, state, begun):
            return False
        position = begun.head
        for row in _rows(subscription, partition, after=begun.position, until=begun.head, limit=1):
            failed = deliveries.Entry(sequence=row[14], event_id=row[0], position=row[13])
            deliveries.park(subscription, partition, failed, error)
            position = failed.position
        _move(subscription, partition, position, 0, 1)
    return True


def _hold(subscription: Subscription, partition: int, state: Checkpoint.State, begun: Begun) -> bool:
    return bool(
        run(
            HOLD,
            {
                "subscription": subscription.name,
                "partition": partition,
                "state": state,
                "position": begun.position,
            },
        )
    )


def _sample(batch: list[Record]) -> list[datetime]:
    """When some of a batch, spread over it, were recorded; the last one's first."""
    step = -(-len(batch) // SAMPLES) or 1
    return [record.recorded_at for record in batch[::-step]]


def _move(
    subscription: Subscription,
    partition: int,
    position: int,
    handled: int,
    seconds: float,
    recorded: Sequence[datetime] = (),
) -> None:
    run(
        MOVE,
        {
            "subscription": subscription.name,
            "partition": partition,
            "position": position,
            "handled": handled,
            "rate": handled / max(seconds, 1e-6),
            "recorded": list(recorded),
        },
    )
