"""What others tell us of their own accord, by webhooks: kept as it came, answered, and only then understood.

Each is known by its provider's own id, so that what is told twice is heard once. A context says what comes of it by a
function with ``@receives`` in its module `webhooks`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from eventing import context, deliveries, nudges
from eventing.domain import Command
from eventing.handlers import dispatch_all
from eventing.models import InboxEntry
from eventing.nudges import Nudge
from eventing.statements import run

Receiver = Callable[[bytes], Iterable[Command]]
State = InboxEntry.State

KEPT = timedelta(days=30)
PURGED_AT_ONCE = 1_000

KEEP = """
INSERT INTO eventing_inbox (source, provider, event_id, body, state, attempts, error, received_at, due_at)
SELECT %(source)s, %(provider)s, %(event_id)s, %(body)s, 'waiting', 0, '', statement_timestamp(), statement_timestamp()
ON CONFLICT (source, provider, event_id) DO NOTHING
RETURNING id
"""

# Takes the one that has waited longest, and counts the attempt. Nobody else takes it until the lease ends.
CLAIM = """
UPDATE eventing_inbox SET attempts = attempts + 1, due_at = statement_timestamp() + %(lease)s
WHERE id = (
    SELECT id FROM eventing_inbox WHERE state = 'waiting' AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, source, provider, body, attempts
"""

logger = logging.getLogger(__name__)

_receivers: dict[str, Receiver] = {}


class InvalidSignature(Exception):
    """What was told isn't signed by who it's said to be of, or is too old."""


class NeedsAPerson(Exception):
    """What was told is understood, and nothing that we could do by ourselves comes of it. It's not tried again."""


class Claim(NamedTuple):
    """One attempt to understand what was told."""

    id: int
    source: str
    provider: str
    body: bytes
    attempt: int


def receives(source: str) -> Callable[[Receiver], Receiver]:
    """Make a function say which commands come of what a context's providers tell."""

    def register(function: Receiver) -> Receiver:
        if source in _receivers:
            raise ValueError(f"Two functions receive what is told to {source}: make them one.")
        _receivers[source] = function
        return function

    return register


def verified(body: bytes, headers: Mapping[str, str], secret: str) -> str:
    """The id of what is signed as Standard Webhooks has it. Raises InvalidSignature."""
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        raise InvalidSignature("This isn't signed as it should be, or is older than five minutes.") from error
    return headers["webhook-id"]


def keep(source: str, provider: str, event_id: str, body: bytes) -> bool:
    """Keep what was told, unless it was told before. Returns whether it's new."""
    told = {"source": source, "provider": provider, "event_id": event_id, "body": body}
    if not run(KEEP, told):
        return False
    transaction.on_commit(partial(nudges.send, [Nudge(nudges.INBOX)]))
    return True


def is_waiting() -> bool:
    """Whether there is something that a worker should take."""
    return InboxEntry.objects.filter(state=State.WAITING, due_at__lte=Now()).exists()


def work() -> bool:
    """Understand one, and carry out what comes of it. Returns whether there was one."""
    for row in run(CLAIM, {"lease": deliveries.lease()}):
        claim = Claim(*row)
        try:
            if claim.attempt > settings.EVENTING["ATTEMPTS"]:
                raise deliveries.NeverEnded(f"Begun {claim.attempt - 1} times and never ended.")
            _carry_out(claim)
        except Exception as error:
            _fail(claim, error)
        return True
    return False


def retry(ids: Iterable[int]) -> int:
    """Let entries be tried again that were given up. Returns how many."""
    return InboxEntry.objects.filter(pk__in=list(ids), state=State.DEAD).update(
        state=State.WAITING, attempts=0, due_at=Now(), alert_attempts=0, alert_begun_at=None, alerted_at=None
    )


def skip(ids: Iterable[int]) -> int:
    """Settle entries that were given up, once a person has seen to them. Told again, they aren't heard again. Returns
    how many."""
    return InboxEntry.objects.filter(pk__in=list(ids), state=State.DEAD).update(state=State.SKIPPED, body=b"")


def purge() -> None:
    """Delete what was understood long ago, some at a time: nobody tells the same after so long."""
    old = InboxEntry.objects.filter(state=State.DONE, received_at__lt=timezone.now() - KEPT)
    InboxEntry.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE])).delete()


def _carry_out(claim: Claim) -> None:
    with transaction.atomic(), context.acting(actor=f"{claim.source}.{claim.provider}"):
        dispatch_all(list(_receivers[claim.source](bytes(claim.body))))
        InboxEntry.objects.filter(pk=claim.id).update(state=State.DONE, body=b"", error="")


def _fail(claim: Claim, error: Exception) -> None:
    """It's tried again later; what came too early may fit by then. After the last attempt it waits for a person."""
    last = claim.attempt >= settings.EVENTING["ATTEMPTS"] or isinstance(error, NeedsAPerson)
    level = logging.ERROR if last else logging.WARNING
    logger.log(level, "Inbox entry %s of %s, attempt %s: %r", claim.id, claim.source, claim.attempt, error)
    InboxEntry.objects.filter(pk=claim.id).update(
        state=State.DEAD if last else State.WAITING,
        due_at=timezone.now() + deliveries.back_off(claim.attempt),
        error=deliveries.describe(error),
    )
