"""Alerts: somebody is told when letters need a person, once a group and not once a letter.

A group is told of when one of its letters dies, or has kept its sequence waiting for longer than
``EVENTING["ALERT_AFTER_SECONDS"]``; and again only after all of it was settled. The log is told always, then whoever
listens to `letters_need_a_person`, then the webhook and the administrators, where there are any. What can't be reached
is tried again a few times, and stops nothing else.
"""

from __future__ import annotations

import logging
import urllib.request
from typing import NamedTuple

import msgspec
from django.conf import settings
from django.core.mail import mail_admins
from django.dispatch import Signal

from eventing.statements import run

logger = logging.getLogger(__name__)

letters_need_a_person = Signal()
"""Sent with ``alert``, an `Alert`. What a receiver raises is logged."""

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


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a group. ``dead`` letters wait for a person; with none, a sequence has been kept too long."""

    signature: str
    subscription: str
    event_type: str
    exception: str
    frame: str
    message: str
    dead: int

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        what = f"{self.dead} dead letter{'' if self.dead == 1 else 's'}" if self.dead else "a sequence kept waiting"
        where = f" in {self.frame}" if self.frame else ""
        return f"{self.subscription} has {what}: {self.exception}{where} at {self.event_type}. {self.message}".strip()


class _Taken(NamedTuple):
    alert: Alert
    attempt: int


def are_due() -> bool:
    """Whether somebody is to be told of something; and what is settled is forgotten. For the sweep."""
    run(SETTLED)
    ((due,),) = run(DUE, _limits())
    return bool(due)


def tell() -> int:
    """Tell of every group that is due. Returns how many were told of."""
    told = 0
    while taken := _take():
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


def _tell(taken: _Taken) -> bool:
    alert = taken.alert
    if taken.attempt == 1:  # these can't be out of reach
        logger.error("%s See dead_letters list --group %s.", alert.sentence, alert.signature)
        letters_need_a_person.send_robust(sender=Alert, alert=alert)
    try:
        _post(alert)
        mail_admins(f"Waybill: {alert.subscription} needs a person", f"{alert.sentence}\n\nGroup {alert.signature}\n")
    except Exception:  # whatever a network and a mail server can come up with: it's tried again, and logged
        logger.warning("Nobody could be told of group %s, attempt %s.", alert.signature, taken.attempt, exc_info=True)
        return False
    run(TOLD, {"signature": alert.signature})
    return True


def _post(alert: Alert) -> None:
    url = settings.EVENTING["ALERT_WEBHOOK_URL"]
    if not url:
        return
    body = msgspec.json.encode({"type": "letters_need_a_person", "text": alert.sentence, "group": alert})
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see settings
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):  # noqa: S310 - the same
        pass


def _limits() -> dict[str, float]:
    return {"most": MOST_ATTEMPTS, "after": settings.EVENTING["ALERT_AFTER_SECONDS"]}
