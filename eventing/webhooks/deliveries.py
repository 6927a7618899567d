"""What endpoints are sent: rows that are made as the log is walked, claimed one by one, and settled by what came back.

As in `eventing.deliveries`, the sequence is the unit of order, here at each endpoint: its first open delivery blocks
the others, and other sequences flow. An attempt is counted before it's made.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction

from eventing import nudges
from eventing.deliveries import RECORDS, lease
from eventing.nudges import Nudge
from eventing.records import Record, records
from eventing.statements import run
from eventing.webhooks.sending import Answer

AT_ONCE = 4  # messages under way to one endpoint, which has no more of the workers than that
MOST_TROUBLES = 3  # attempts in a row that failed or took long, from which on there's one at once until one goes well
LONG = 5_000  # milliseconds
MOST_REPLAYED = 10_000  # events that one replay looks at

# What comes behind a delivery that was put off, or failed, isn't due before it: a claim then doesn't have to look at
# everything that waits for an endpoint which is down.
_AHEAD = """LEFT JOIN LATERAL (
    SELECT position, due_at FROM eventing_webhook_delivery open
    WHERE open.endpoint_id = %(endpoint)s AND open.sequence = {of}.sequence AND open.position < {of}.position
        AND open.state IN ('waiting', 'failed')
    ORDER BY position DESC LIMIT 1
) ahead ON true"""
_DUE_AT = "CASE WHEN ahead.position IS NULL THEN statement_timestamp() ELSE ahead.due_at END"

_MAKE = f"""
INSERT INTO eventing_webhook_delivery (endpoint_id, event_id, position, sequence, state, attempts, due_at)
SELECT %(endpoint)s, made.event_id, made.position, made.sequence, 'waiting', 0,
    {_DUE_AT}
FROM {{made}} {_AHEAD.format(of="made")}
"""

# An event that failed to be walked past, and is now, may have been replayed meanwhile.
MAKE = (
    _MAKE.format(
        made="""unnest(%(event_ids)s::uuid[], %(positions)s::bigint[], %(sequences)s::text[])
    AS made (event_id, position, sequence)"""
    )
    + "ON CONFLICT (endpoint_id, position) DO NOTHING"
)

# Events that were never for the endpoint, because it was disabled or asked for other types, are made; what failed or
# was skipped waits again, and what is done when that's wanted.
REPLAY = f"""
WITH made AS (
    SELECT log.event_id, log.position, event.category || '-' || event.stream_id AS sequence
    FROM eventing_log log JOIN eventing_event event ON event.id = log.event_id
    WHERE log.position > %(since)s AND log.position <= %(until)s AND log.type = ANY(%(types)s)
    ORDER BY log.position LIMIT %(limit)s
), replayed AS (
    {_MAKE.format(made="made")}
    ON CONFLICT (endpoint_id, position) DO UPDATE
        SET state = 'waiting', attempts = 0, due_at = excluded.due_at, finished_at = NULL, reason = ''
        WHERE eventing_webhook_delivery.state IN ('failed', 'skipped')
            OR %(done_too)s AND eventing_webhook_delivery.state = 'done'
    RETURNING position
)
SELECT (SELECT count(*) FROM replayed), (SELECT count(*) FROM made), (SELECT max(position) FROM made)
"""

# One claims at a time for an endpoint, so that each sees what the others have under way.
HOLD = "SELECT troubles FROM eventing_webhook_endpoint WHERE id = %(endpoint)s AND enabled FOR NO KEY UPDATE"

_UNDER_WAY = "FROM eventing_webhook_delivery WHERE endpoint_id = {endpoint} AND leased_until > statement_timestamp()"

# What has been due for longest and begins its sequence. Of what is due the index has the order, and what is behind
# something under way is passed over without a look at its sequence, so it's soon found, however much waits. OFFSET
# keeps the server from sorting all of it, because it believes that there is little.
_FIRST = f"""
SELECT id FROM (
    SELECT id, sequence, position FROM eventing_webhook_delivery
    WHERE endpoint_id = {{endpoint}} AND state = 'waiting' AND due_at <= statement_timestamp()
    ORDER BY due_at, position OFFSET 0
) due
WHERE sequence <> ALL (ARRAY(SELECT sequence {_UNDER_WAY})) AND position = (
    SELECT min(open.position) FROM eventing_webhook_delivery open
    WHERE open.endpoint_id = {{endpoint}} AND open.sequence = due.sequence AND open.state IN ('waiting', 'failed')
)
LIMIT 1
"""

CLAIM = f"""
WITH claimed AS (
    SELECT id FROM eventing_webhook_delivery
    WHERE id = ({_FIRST.format(endpoint="%(endpoint)s")}) AND state = 'waiting'
        AND %(at_once)s > (SELECT count(*) {_UNDER_WAY.format(endpoint="%(endpoint)s")})
    FOR UPDATE SKIP LOCKED
)
UPDATE eventing_webhook_delivery delivery SET attempts = attempts + 1, attempted_at = statement_timestamp(),
    leased_until = statement_timestamp() + %(lease)s
FROM claimed WHERE delivery.id = claimed.id
RETURNING delivery.id, event_id, position, sequence, attempts, attempted_at
"""

# Only the attempt that was last begun says what became of it. Its number doesn't tell: a retry counts anew.
DONE = """
UPDATE eventing_webhook_delivery SET state = 'done', finished_at = statement_timestamp(), leased_until = NULL,
    last_status = %(status)s, last_error = '', milliseconds = %(milliseconds)s
WHERE id = %(id)s AND state = 'waiting' AND attempted_at = %(begun_at)s
"""

PUT_OFF = """
WITH failed AS (
    UPDATE eventing_webhook_delivery SET state = CASE WHEN %(delay)s::interval IS NULL THEN 'failed' ELSE 'waiting' END,
        due_at = statement_timestamp() + %(delay)s::interval, leased_until = NULL,
        last_status = %(status)s, last_error = %(error)s, milliseconds = %(milliseconds)s
    WHERE id = %(id)s AND state = 'waiting' AND attempted_at = %(begun_at)s
    RETURNING endpoint_id, sequence, position
)
UPDATE eventing_webhook_delivery behind SET due_at = statement_timestamp() + %(delay)s::interval
FROM failed
WHERE behind.endpoint_id = failed.endpoint_id AND behind.sequence = failed.sequence
    AND behind.position > failed.position AND behind.state = 'waiting'
"""

# Most endpoints have no trouble, and their row isn't written.
TROUBLES = """
UPDATE eventing_webhook_endpoint endpoint SET troubles = CASE WHEN %(well)s THEN 0 ELSE troubles + 1 END
FROM eventing_webhook_delivery settled
WHERE settled.id = %(id)s AND endpoint.id = settled.endpoint_id AND NOT (%(well)s AND troubles = 0)
"""

# All that waits, of one sequence or of all, is due now, unless it waits behind one that failed.
RELEASE = """
UPDATE eventing_webhook_delivery waiting SET due_at = statement_timestamp()
WHERE endpoint_id = %(endpoint)s AND state = 'waiting' AND (due_at IS NULL OR due_at > statement_timestamp())
    AND (%(sequence)s::text IS NULL OR sequence = %(sequence)s)
    AND NOT EXISTS (
        SELECT FROM eventing_webhook_delivery failed
        WHERE failed.endpoint_id = waiting.endpoint_id AND failed.sequence = waiting.sequence
            AND failed.position < waiting.position AND failed.state = 'failed'
    )
"""

RETRY = f"""
WITH retried AS (
    SELECT retried.id AS retried_id, {_DUE_AT} AS retried_at
    FROM eventing_webhook_delivery retried {_AHEAD.format(of="retried")}
    WHERE retried.id = %(id)s
)
UPDATE eventing_webhook_delivery
SET state = 'waiting', attempts = 0, due_at = retried_at, finished_at = NULL, reason = ''
FROM retried
WHERE id = retried_id AND state <> 'done' AND (leased_until IS NULL OR leased_until <= statement_timestamp())
RETURNING sequence
"""

SKIP = """
UPDATE eventing_webhook_delivery SET state = 'skipped', reason = %(reason)s, finished_at = statement_timestamp()
WHERE id = %(id)s AND state IN ('waiting', 'failed')
    AND (leased_until IS NULL OR leased_until <= statement_timestamp())
RETURNING sequence
"""

# Endpoints for which something is due that can be sent, whatever became of the nudge for it.
DUE = f"""
SELECT endpoint.id FROM eventing_webhook_endpoint endpoint
CROSS JOIN LATERAL ({_FIRST.format(endpoint="endpoint.id")}) due WHERE enabled
"""


class Claim(NamedTuple):
    """One attempt that is ours to make."""

    id: int
    attempt: int
    begun_at: datetime
    position: int
    sequence: str
    row: tuple[Any, ...]

    @property
    def record(self) -> Record:
        """What is to be sent. Raises as `decode_all` does when it can't be read."""
        return records([(*self.row, self.position, self.sequence)])[0]

    @property
    def is_worn_out(self) -> bool:
        """Whether there have been as many attempts as there may be."""
        return self.attempt > len(schedule())


class Replayed(NamedTuple):
    """How many deliveries wait again, the position up to which the log was looked at, and the one up to which all
    endpoints have their deliveries."""

    deliveries: int
    position: int
    walked: int


def nudge_for(endpoint_id: UUID) -> Nudge:
    """Says that there may be something for an endpoint."""
    return Nudge(nudges.WEBHOOKS, (str(endpoint_id),), "webhooks")


def make(endpoint_id: UUID, records: Iterable[Record]) -> None:
    """Let an endpoint be sent records, in the running transaction, which holds the walk along the log."""
    made = list(records)
    run(
        MAKE,
        {
            "endpoint": endpoint_id,
            "event_ids": [record.id for record in made],
            "positions": [record.position for record in made],
            "sequences": [record.key for record in made],
        },
    )


def claim(endpoint_id: UUID) -> Claim | None:
    """Take the delivery that has been due for longest, unless enough are under way to the endpoint."""
    with transaction.atomic():
        held = run(HOLD, {"endpoint": endpoint_id})
        if not held:
            return None
        at_once = 1 if held[0][0] >= MOST_TROUBLES else AT_ONCE
        claimed = run(CLAIM, {"endpoint": endpoint_id, "at_once": at_once, "lease": _lease()})
    for id, event_id, position, sequence, attempt, begun_at in claimed:
        (row,) = run(RECORDS, {"ids": [event_id]})
        return Claim(id, attempt, begun_at, position, sequence, row)
    return None


def settle(claim: Claim, answer: Answer) -> None:
    """Write down what became of an attempt: it's done, or comes again by the schedule, or has failed."""
    told = {"id": claim.id, "begun_at": claim.begun_at, "status": answer.status, "milliseconds": answer.milliseconds}
    if answer.is_success:
        run(DONE, told)
    else:
        error = f"{answer.error} {answer.excerpt}".strip()
        run(PUT_OFF, {**told, "error": error, "delay": _delay(claim.attempt, answer.wait)})
    run(TROUBLES, {"id": claim.id, "well": answer.is_success and answer.milliseconds < LONG})


def schedule() -> Sequence[float]:
    """The seconds before each attempt."""
    seconds: Sequence[float] = settings.EVENTING["WEBHOOK_SCHEDULE"]
    return seconds


def retry(endpoint_id: UUID, delivery_id: int) -> bool:
    """Let a delivery that isn't done be made now, with all its attempts, and what waits behind it afterwards. Returns
    whether it could be; in a transaction that holds the walk."""
    return _released(endpoint_id, run(RETRY, {"endpoint": endpoint_id, "id": delivery_id}))


def skip(endpoint_id: UUID, delivery_id: int, *, reason: str) -> bool:
    """Give a delivery up; the next of its sequence go on. Returns whether it was open; in a transaction that holds the
    walk."""
    return _released(endpoint_id, run(SKIP, {"id": delivery_id, "reason": reason}))


def replay(endpoint_id: UUID, types: Sequence[str], *, since: int, until: int, done_too: bool) -> Replayed:
    """Let the events behind a position wait again, in a transaction that holds the walk."""
    ((replayed, looked_at, position),) = run(
        REPLAY,
        {
            "endpoint": endpoint_id,
            "types": list(types),
            "since": since,
            "until": until,
            "limit": MOST_REPLAYED,
            "done_too": done_too,
        },
    )
    release(endpoint_id)
    return Replayed(replayed, position if looked_at == MOST_REPLAYED else max(since, until), until)


def release(endpoint_id: UUID, sequence: str | None = None) -> None:
    """What waits for its time, in one sequence or in all, waits no longer."""
    run(RELEASE, {"endpoint": endpoint_id, "sequence": sequence})


def due() -> list[UUID]:
    """The endpoints for which something is due."""
    return [row[0] for row in run(DUE)]


def _released(endpoint_id: UUID, rows: list[tuple[Any, ...]]) -> bool:
    for (sequence,) in rows:
        release(endpoint_id, sequence)
    return bool(rows)


def _lease() -> timedelta:
    """How long a delivery is left to its worker: longer than any receiver may take."""
    return lease() + timedelta(seconds=settings.EVENTING["WEBHOOK_SECONDS"])


def _delay(attempt: int, wait: float) -> timedelta | None:
    """How long until the next attempt: never less than the schedule or the receiver says, and a little more, so that
    many don't come at once. None after the last attempt."""
    seconds = schedule()
    if attempt >= len(seconds):
        return None
    return timedelta(seconds=max(seconds[attempt], wait) * random.uniform(1, 1.1))  # noqa: S311 - no secret


def position_at(moment: datetime) -> int:
    """The position of the last event that was published before a moment."""
    rows = run(
        "SELECT position FROM eventing_log WHERE published_at < %(moment)s ORDER BY position DESC LIMIT 1",
        {"moment": moment},
    )
    return rows[0][0] if rows else 0
