"""The relay: gives each committed event its place in the one gapless log.

Only one relay works at a time; another leaves at once. A row that is committed late is still in the outbox at the
next pass and gets a later position: nothing is compared with a high-water mark, so nothing is ever skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone

from eventing import chain, hints, nudges
from eventing.models import RelayFailure
from eventing.statements import run
from eventing.subscriptions import subscriptions_to

PASS = 5_000  # events a pass, so that a pass ends in well under a second
RELAY_LOCK = 20_816

ALONE = "SELECT pg_try_advisory_xact_lock(%(lock)s)"

# Has to be a statement after the one that took the lock: its snapshot then sees all that the relay before us did.
# Outbox ids grow in the order of the statements that inserted them, so a stream's events come in their order. The
# chain goes on from the link at the head; a digest is missing where the event was appended while there was no chain.
MOVE = f"""
WITH moved AS (
    DELETE FROM eventing_outbox WHERE id IN (SELECT id FROM eventing_outbox ORDER BY id LIMIT %(limit)s)
    RETURNING id, event_id, type, digest
), head AS (
    SELECT coalesce(max(position), 0) AS position,
        coalesce((SELECT link FROM eventing_log ORDER BY position DESC LIMIT 1), %(genesis)s) AS link
    FROM eventing_log
), healed AS (
    DELETE FROM eventing_relay_failure
), placed AS (
    SELECT head.position + row_number() OVER (ORDER BY moved.id) AS position, moved.event_id, moved.type, moved.digest,
        head.link AS head
    FROM moved, head
), published AS (
    INSERT INTO eventing_log (position, event_id, type, link)
    SELECT position, event_id, type, eventing_chain(head, position, coalesce(digest, (
        SELECT sha256({chain.content_of("event")}) FROM eventing_event event WHERE event.id = placed.event_id
    ))) FILTER (WHERE %(chained)s) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)
    FROM placed
    RETURNING type
)
SELECT type, count(*) FROM published GROUP BY type
"""


class Moved(NamedTuple):
    """What one pass of the relay did."""

    events: int
    types: frozenset[str]


def relay_once(limit: int = PASS) -> Moved | None:
    """Move up to ``limit`` events from the outbox to the log; None when another relay is at work."""
    try:
        with transaction.atomic():
            if not run(ALONE, {"lock": RELAY_LOCK})[0][0]:
                return None
            counts = dict(run(MOVE, {"limit": limit, "genesis": chain.GENESIS, "chained": chain.is_on()}))
    except DatabaseError as error:
        _note_failure(error)
        raise
    return Moved(sum(counts.values()), frozenset(counts))


def relay_all(limit: int = PASS) -> Iterator[int]:
    """Relay what is in the outbox, unless another relay is at work, and tell who waits for what was moved."""
    while (moved := relay_once(limit)) is not None and moved.events:
        nudges.send([nudge for subscription in subscriptions_to(moved.types) for nudge in subscription.nudges])
        hints.send()
        yield moved.events
        if moved.events < limit:
            return


def _note_failure(error: DatabaseError) -> None:
    """Keep count for the operator; while the database is down there is nowhere to note it, and the log tells."""
    with suppress(DatabaseError):
        RelayFailure.objects.bulk_create(
            [RelayFailure(retries=0, error="", failed_at=timezone.now())], ignore_conflicts=True
        )
        RelayFailure.objects.update(retries=F("retries") + 1, error=str(error), failed_at=timezone.now())
