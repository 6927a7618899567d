"""Alerts: somebody is told when letters need a person, once a group and not once a letter; and when inbox entries do.

A group is told of when one of its letters dies, or has kept its sequence waiting for longer than
``EVENTING["ALERT_AFTER_SECONDS"]``; and again only after all of it was settled. An inbox entry is told of when it dies,
together with others of its provider that nobody was told of yet. The log is told always, then whoever listens to the
signal, then the webhook and the administrators, where there are any. What can't be reached is tried again a few times,
and stops nothing else.
"""

from __future__ import annotations

import logging
import urllib.request
from typing import ClassVar, NamedTuple

import msgspec
from django.conf import settings
from django.core.mail import mail_admins
from django.dispatch import Signal

from eventing.statements import run

logger = logging.getLogger(__name__)

letters_need_a_person = Signal()
"""Sent with ``alert``, an `Alert`. What a receiver raises is logged."""

inbox_needs_a_person = Signal()
"""Sent with ``alert``, an `InboxAlert`. What a receiver raises is logged."""

MOST_ATTEMPTS = 5
WEBHOOK_SECONDS = 5

_NEED_A_PERSON = """
    SELECT signature FROM eventing_delivery
    WHERE state IN ('waiting', 'dead') AND signature <> ''
        AND (state = 'dead' OR error <> '' AND failing_since < statement_timestamp() - make_interval(secs => %(after)s))
"""

# Groups that nobody was told of yet; those that couldn't be told of are due again after a while.
DUE = f"""
SELECT EXISTS (
    SELECT FROM eventing_letter_group
    WHERE alerted_at IS NULL AND alert_attempts < %(most)s
        AND (alert_begun_at IS NULL OR alert_begun_at < statement_timestamp() - interval '15 seconds' * alert_attempts)
        AND signature IN ({_NEED_A_PERSON})
)
"""

# Takes one of them, in a statement of its own: no lock is held while somebody is told, and nobody is told twice.
TAKE = f"""
UPDATE eventing_letter_group SET alert_attempts = alert_attempts + 1, alert_begun_at = statement_timestamp()
WHERE signature = (
    SELECT signature FROM eventing_letter_group
    WHERE alerted_at IS NULL AND alert_attempts < %(most)s
        AND (alert_begun_at IS NULL OR alert_begun_at < statement_timestamp() - interval '15 seconds' * alert_attempts)
        AND signature IN ({_NEED_A_PERSON})
    ORDER BY first_seen LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING signature, subscription, event_type, exception, frame, message, alert_attempts, (
    SELECT count(*) FROM eventing_delivery letter
    WHERE letter.signature = eventing_letter_group.signature AND state = 'dead'
)
"""

TOLD = "UPDATE eventing_letter_group SET alerted_at = statement_timestamp() WHERE signature = %(signature)s"

# What is all settled is told of again when it comes back.
SETTLED = """
UPDATE eventing_letter_group SET alerted_at = NULL, alert_attempts = 0, alert_begun_at = NULL
WHERE (alerted_at IS NOT NULL OR alert_attempts > 0) AND NOT EXISTS (
    SELECT FROM eventing_delivery letter
    WHERE letter.signature = eventing_letter_group.signature AND state IN ('waiting', 'dead')
)
"""

_ENTRIES = """
    state = 'dead' AND alerted_at IS NULL AND alert_attempts < %(most)s
        AND (alert_begun_at IS NULL OR alert_begun_at < statement_timestamp() - interval '15 seconds' * alert_attempts)
"""

# The same for inbox entries: takes all that a provider has.
ENTRIES_DUE = f"SELECT EXISTS (SELECT FROM eventing_inbox WHERE {_ENTRIES})"

TAKE_ENTRIES = f"""
UPDATE eventing_inbox SET alert_attempts = alert_attempts + 1, alert_begun_at = statement_timestamp()
WHERE id IN (
    SELECT id FROM eventing_inbox WHERE {_ENTRIES} AND (source, provider) = (
        SELECT source, provider FROM eventing_inbox WHERE {_ENTRIES} ORDER BY id LIMIT 1
    )
    FOR UPDATE SKIP LOCKED
)
RETURNING id, source, provider, error, alert_attempts
"""

TOLD_OF_ENTRIES = """
UPDATE eventing_inbox SET alerted_at = statement_timestamp() WHERE id = ANY(%(entries)s) AND state = 'dead'
"""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a group. ``dead`` letters wait for a person; with none, a sequence has been kept too long."""

    signature: str
    subscription: str
    event_type: str
    exception: str
    frame: str
    message: str
    dead: int

    kind: ClassVar = "letters_need_a_person"

    @property
    def subject(self) -> str:
        """Who needs a person."""
        return self.subscription

    @property
    def command(self) -> str:
        """Which command shows more."""
        return f"dead_letters list --group {self.signature}"

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        what = f"{self.dead} dead letter{'' if self.dead == 1 else 's'}" if self.dead else "a sequence kept waiting"
        where = f" in {self.frame}" if self.frame else ""
        return f"{self.subscription} has {what}: {self.exception}{where} at {self.event_type}. {self.message}".strip()


class InboxAlert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of entries of the inbox that were given up: which they are, and the error of the first."""

    source: str
    provider: str
    entries: tuple[int, ...]
    error: str

    kind: ClassVar = "inbox_needs_a_person"
    command: ClassVar = "inbox list"

    @property
    def subject(self) -> str:
        """Who needs a person."""
        return f"the inbox of {self.source}"

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        dead = len(self.entries)
        what = f"{dead} dead entr{'y' if dead == 1 else 'ies'}"
        return f"{self.subject.capitalize()} has {what} from {self.provider}: {self.error}"


class _Taken(NamedTuple):
    """``attempt`` is the lowest of those that are told of together."""

    alert: Alert | InboxAlert
    attempt: int


def are_due() -> bool:
    """Whether somebody is to be told of something; and what is settled is forgotten. For the sweep."""
    run(SETTLED)
    return any(due for sql in (DUE, ENTRIES_DUE) for ((due,),) in [run(sql, _limits())])


def tell() -> int:
    """Tell of every group that is due, and every provider's entries. Returns how many were told of."""
    told = 0
    while taken := _take() or _take_entries():
        told += _tell(taken)
    return told


def _take() -> _Taken | None:
    for signature, subscription, event_type, exception, frame, message, attempt, dead in run(TAKE, _limits()):
        alert = Alert(
            signature=signature,
            subscription=subscription,
            event_type=event_type,
            exception=exception,
            frame=frame,
            message=message,
            dead=dead,
        )
        return _Taken(alert, attempt)
    return None


def _take_entries() -> _Taken | None:
    rows = sorted(run(TAKE_ENTRIES, _limits()))
    for _, source, provider, error, _ in rows[:1]:
        entries = tuple(row[0] for row in rows)
        alert = InboxAlert(source=source, provider=provider, entries=entries, error=error)
        return _Taken(alert, min(row[-1] for row in rows))
    return None


def _tell(taken: _Taken) -> bool:
    alert = taken.alert
    if taken.attempt == 1:  # these can't be out of reach
        logger.error("%s See %s.", alert.sentence, alert.command)
        signal = letters_need_a_person if isinstance(alert, Alert) else inbox_needs_a_person
        signal.send_robust(sender=type(alert), alert=alert)
    try:
        _post(alert)
        mail_admins(f"Waybill: {alert.subject} needs a person", f"{alert.sentence}\n\nSee manage.py {alert.command}\n")
    except Exception:  # whatever a network and a mail server can come up with: it's tried again, and logged
        logger.warning("Nobody could be told of %s, attempt %s.", alert.subject, taken.attempt, exc_info=True)
        return False
    match alert:
        case Alert(signature=signature):
            run(TOLD, {"signature": signature})
        case InboxAlert(entries=entries):
            run(TOLD_OF_ENTRIES, {"entries": list(entries)})
    return True


def _post(alert: Alert | InboxAlert) -> None:
    url = settings.EVENTING["ALERT_WEBHOOK_URL"]
    if not url:
        return
    about = {"group": alert} if isinstance(alert, Alert) else {"inbox": alert}
    body = msgspec.json.encode({"type": alert.kind, "text": alert.sentence, **about})
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see settings
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):  # noqa: S310 - the same
        pass


def _limits() -> dict[str, float]:
    return {"most": MOST_ATTEMPTS, "after": settings.EVENTING["ALERT_AFTER_SECONDS"]}
