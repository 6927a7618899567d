"""What operators do about letters: try again, or give up for a written reason. Each act is noted with who did it.

The same functions serve the pages, the API and the shell.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Model, QuerySet

from eventing import audit, deliveries, nudges
from eventing.domain import Rejected
from eventing.effects import EffectSubscription
from eventing.models import Attempt, Delivery, LetterGroup
from eventing.nudges import Nudge
from eventing.signature import without_what_differs
from eventing.statements import run
from eventing.subscriptions import subscriptions
from eventing.text import check_text

LONGEST_REASON = 1_000
MOST_NOTED = 1_000

# Open letters by group, and how many later events wait behind them. ``affected`` are the streams that they're of.
GROUPS = """
SELECT letter_group.signature, letter_group.subscription, letter_group.event_type, letter_group.exception,
    letter_group.frame, letter_group.message, letter_group.first_seen, letter_group.last_seen, letter_group.failures,
    count(*) FILTER (WHERE letter.state = 'dead') AS dead,
    count(*) FILTER (WHERE letter.state = 'waiting') AS retrying,
    count(DISTINCT coalesce(event.data ->> %(subject)s, event.category || '-' || event.stream_id)) AS affected,
    coalesce(sum(behind.waiting), 0)::bigint AS behind
FROM eventing_delivery letter
JOIN eventing_letter_group letter_group USING (signature)
JOIN eventing_event event ON event.id = letter.event_id
LEFT JOIN LATERAL (
    SELECT count(*) AS waiting FROM eventing_delivery later
    WHERE later.subscription = letter.subscription AND later.sequence = letter.sequence
        AND later.position > letter.position AND later.state IN ('waiting', 'dead')
) behind ON true
WHERE letter.state IN ('waiting', 'dead') AND letter.signature <> ''
    AND (letter.state = 'dead' OR letter.error <> '')
    AND (%(signatures)s::text[] IS NULL OR letter.signature = ANY(%(signatures)s))
GROUP BY letter_group.signature
ORDER BY dead DESC, letter_group.last_seen DESC
"""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Open letters of one signature: what they have in common, and how many there are."""

    signature: str
    subscription: str
    event_type: str
    exception: str
    frame: str
    message: str
    first_seen: datetime
    last_seen: datetime
    failures: int
    dead: int
    retrying: int
    affected: int
    behind: int

    @property
    def open(self) -> int:
        """Letters that are dead, or are tried again later."""
        return self.dead + self.retrying


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which letters are meant: all that fit, where nothing is said."""

    subscription: str = ""
    event_type: str = ""
    signature: str = ""
    sequence: str = ""
    state: str = ""
    ids: tuple[int, ...] = ()

    def letters(self) -> QuerySet[Delivery]:
        """Those that have failed and aren't settled, the oldest first."""
        fitting = deliveries.failed()
        for name in ("subscription", "signature", "sequence", "state"):
            if value := getattr(self, name):
                fitting = fitting.filter(**{name: value})
        if self.event_type:
            fitting = fitting.filter(event__type=self.event_type)
        if self.ids:
            fitting = fitting.filter(pk__in=self.ids)
        return fitting.order_by("position", "pk")

    def described(self) -> dict[str, Any]:
        """What was asked for, as JSON has it."""
        described: dict[str, Any] = msgspec.to_builtins(self)
        return described


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as the letter's page shows it; one that never ended has no end and no error."""

    number: int
    began_at: datetime | None
    failed_at: datetime | None
    worker: str
    error: str
    traceback: str


def groups(subject: str, signatures: list[str] | None = None) -> list[Group]:
    """The groups of open letters, all or those of these signatures, those with most dead ones first. ``subject`` is the
    field of events that names what an operator calls affected, such as ``order_id``."""
    columns = Group.__struct_fields__
    rows = run(GROUPS, {"subject": subject, "signatures": signatures})
    return [Group(**dict(zip(columns, row, strict=True))) for row in rows]


def readable(told: str, *, with_personal_data: bool) -> str:
    """An error or a traceback as somebody may read it."""
    return told if with_personal_data else without_what_differs(told)


def failures_of(letter: Delivery, *, with_personal_data: bool) -> list[Failure]:
    """Each attempt, oldest first, those that never ended among them: the numbers that are missing."""
    told: list[Failure] = []
    known = 0
    for attempt in Attempt.objects.filter(delivery=letter).order_by("pk"):
        if attempt.number <= known:
            known = 0  # somebody had it tried again, and counting began anew
        told += [_never_ended(number) for number in range(known + 1, attempt.number)]
        told.append(
            Failure(
                number=attempt.number,
                began_at=attempt.began_at,
                failed_at=attempt.failed_at,
                worker=attempt.worker,
                error=readable(attempt.error, with_personal_data=with_personal_data),
                traceback=readable(attempt.traceback, with_personal_data=with_personal_data),
            )
        )
        known = attempt.number
    return told


def retry(asked: Filter, *, who: User, **noted: Any) -> int:
    """Have letters tried again at once. Returns how many; for many, a job is kinder (`letter_jobs.start`)."""
    with transaction.atomic():
        letters = list(to_retry(asked).select_for_update())
        release(letters)
        if letters:
            _note(who, "retried", asked, letters, noted)
    return len(letters)


def skip(asked: Filter, *, reason: str, who: User, at_most: int | None = None, **noted: Any) -> int:
    """Give letters up; the next of their sequences go on. Returns how many. Raises Rejected without a reason, and when
    more than ``at_most`` fit: others have come since somebody looked."""
    reason = " ".join(reason.split())
    if not reason:
        raise Rejected("The reason is empty: say why these events may be left out.")
    check_text("The reason", reason, LONGEST_REASON)
    with transaction.atomic():
        letters = list(asked.letters().select_for_update())
        if at_most is not None and len(letters) > at_most:
            raise Rejected(f"{len(letters):,} letters fit by now, not {at_most:,}. Look at them, then say so again.")
        deliveries.skip(Delivery.objects.filter(pk__in=[each.pk for each in letters]), reason=reason)
        if letters:
            _note(who, "skipped", asked, letters, {"reason": reason, **noted})
        transaction.on_commit(partial(nudges.send, _nudges(letters)))
    return len(letters)


def to_retry(asked: Filter) -> QuerySet[Delivery]:
    """The letters that `retry` is about. By its number an effect's job can be taken up again that was skipped: what is
    asked of the outside world has a key, and nothing else can learn what became of it."""
    effects = [each.name for each in subscriptions() if isinstance(each, EffectSubscription)]
    skipped = Delivery.objects.filter(pk__in=asked.ids, state=Delivery.State.SKIPPED, subscription__in=effects)
    return asked.letters() | skipped.order_by("position", "pk")


def release(letters: list[Delivery]) -> None:
    """Have letters tried again with all their attempts, once the running transaction has ended."""
    deliveries.retry(Delivery.objects.filter(pk__in=[each.pk for each in letters]))
    transaction.on_commit(partial(nudges.send, _nudges(letters)))


def _nudges(letters: list[Delivery]) -> list[Nudge]:
    known = {subscription.name: subscription for subscription in subscriptions()}
    wanted: dict[Nudge, None] = {}
    for letter in letters:
        subscription = known.get(letter.subscription)
        if isinstance(subscription, EffectSubscription):
            wanted[subscription.nudge_to_perform] = None
        elif subscription is not None:
            wanted[subscription.nudge_for(letter.partition)] = None
    return list(wanted)


def _note(who: User, act: str, asked: Filter, letters: list[Delivery], noted: dict[str, Any]) -> None:
    ids = [each.pk for each in letters[:MOST_NOTED]]
    about = _about(asked, letters)
    audit.note(who, act, about, filter=asked.described(), letters=len(letters), letter_ids=ids, **noted)


def _about(asked: Filter, letters: list[Delivery]) -> Model:
    """What the note is attached to: the one letter, the group, or the first of many."""
    if len(letters) > 1 and asked.signature:
        return LetterGroup.objects.get(pk=asked.signature)
    return letters[0]


def _never_ended(number: int) -> Failure:
    return Failure(number=number, began_at=None, failed_at=None, worker="", error="", traceback="")
