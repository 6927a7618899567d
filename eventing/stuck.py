"""Says why a saga isn't finished, in one sentence, and which act helps: the same to pages, the API and the shell."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec
from django.db.models import Min, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone
from django.utils.timesince import timesince

from eventing import checkpoints
from eventing.effects import EffectSubscription
from eventing.event_map import sent_by
from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry, SagaInstance, StoredEvent, Timer
from eventing.resuming import given_up_for, saga_named, sagas
from eventing.sagas import IS_UUID
from eventing.subscriptions import subscription_named, subscriptions

SLOW = timedelta(seconds=10)  # what waits for longer than this isn't just on its way

# Those that failed, missed their deadline, or have an event that died or a reminder that fails again and again. Each
# part is found by an index of its own.
STUCK = f"""
SELECT id FROM eventing_saga WHERE failed
UNION SELECT id FROM eventing_saga WHERE ended_at IS NULL AND deadline_at <= statement_timestamp()
UNION SELECT saga.id FROM eventing_delivery letter
JOIN eventing_saga saga ON saga.saga = letter.subscription
    AND saga.key = CASE WHEN letter.subscription = ANY(%s)
        AND letter.sequence {IS_UUID} THEN letter.sequence::uuid END
WHERE letter.state = 'dead'
UNION SELECT saga.id FROM eventing_timer timer JOIN eventing_saga saga USING (saga, key) WHERE timer.attempts >= 3
"""


class Act(Enum):
    """What helps."""

    NOTHING = "nothing is to be done"
    WAIT = "wait"
    RESUME = "resume the saga"
    RETRY = "retry the letter, or skip it"
    TAKE_UP = "retry the letter"
    UNPAUSE = "resume the subscription"
    SEE_TO_WORKERS = "see whether workers run"
    SEE_TO_IT = "see to it by hand"


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a saga isn't finished: a sentence, the act that helps, and the letter or the subscription to do it to."""

    sentence: str
    act: Act
    letter: int | None = None
    subscription: str = ""


def stuck() -> QuerySet[SagaInstance]:
    """The sagas that need a person, or may soon."""
    return SagaInstance.objects.filter(pk__in=RawSQL(STUCK, [[each.name for each in sagas()]]))  # noqa: S611 - ours


def why_unfinished(saga: SagaInstance) -> Why:
    """What keeps a saga from its end, the nearest cause first."""
    if saga.ended_at and not saga.failed:
        return Why(sentence=f"It ended {saga.state} {_ago(saga.ended_at)}.", act=Act.NOTHING)
    if saga.saga not in {each.name for each in sagas()}:
        return Why(sentence="The program doesn't define this saga any more, so nothing moves it.", act=Act.SEE_TO_IT)
    partition = saga_named(saga.saga).partition_of(str(saga.key))
    return (
        _own_letter(saga)
        or _failure(saga)
        or _reminder(saga)
        or _halt(saga.saga, partition)
        or _relay()
        or _letter_of_others(saga)
        or _given_up(saga)
        or _patience(saga)
    )


def _own_letter(saga: SagaInstance) -> Why | None:
    """The first event that it couldn't take in: all that came later waits behind it."""
    letters = Delivery.objects.filter(subscription=saga.saga, sequence=str(saga.key), state__in=Delivery.OPEN)
    letter = letters.select_related("event").order_by("position").first()
    return _about(letter, "It can't go on") if letter else None


def _failure(saga: SagaInstance) -> Why | None:
    if not saga.failed:
        return None
    for letter in Delivery.objects.filter(pk__in=given_up_for(saga)[:1]).select_related("event"):
        if letter.state in Delivery.OPEN:
            return _about(letter, f"It failed, because {letter.subscription} gave up")
        if letter.state == Delivery.State.SKIPPED:
            return _skipped(letter)
    reason = saga.memory.get("reason") or "it gives no reason."
    return Why(
        sentence=f"It failed {_ago(saga.ended_at or saga.updated_at)}, and waits for a person: {reason}",
        act=_by_person(saga),
    )


def _reminder(saga: SagaInstance) -> Why | None:
    """A reminder that fails again and again, or takes its worker with it."""
    failing = Timer.objects.filter(saga=saga.saga, key=saga.key, attempts__gte=Timer.FAILING).first()
    if failing is None:
        return None
    how = f"failed with {failing.error}" if failing.error else "was begun and never ended"
    again = f"{_times(failing.attempts)}, and is tried again {_in(failing.due_at)}"
    return Why(
        sentence=f"Its reminder of {failing.about} {how}, {again}.",
        act=_by_person(saga),
    )


def _halt(name: str, partition: int) -> Why | None:
    """A subscription that stands still, so that what it's to hear may still be on its way."""
    checkpoint = Checkpoint.objects.filter(subscription=name, partition=partition).first()
    if checkpoint is None:
        return None
    lag, moved = checkpoints.head() - checkpoint.position, checkpoint.moved_at
    unseen = LogEntry.objects.filter(position=checkpoint.position + 1).first()
    behind = f"{lag:,} {'event' if lag == 1 else 'events'} behind the log"
    if checkpoint.state != Checkpoint.State.RUNNING:
        return Why(sentence=f"{name} is {checkpoint.state}, {behind}.", act=Act.UNPAUSE, subscription=name)
    if unseen and _is_slow(unseen.published_at) and (moved is None or _is_slow(moved)):
        since = f"last moved {_ago(moved)}" if moved else "has never moved"
        return Why(sentence=f"{name} is {behind}, and {since}.", act=Act.SEE_TO_WORKERS, subscription=name)
    return None


def _relay() -> Why | None:
    oldest = OutboxEntry.objects.aggregate(oldest=Min("created_at"))["oldest"]
    if oldest is None or not _is_slow(oldest):
        return None
    return Why(
        sentence=f"The relay stands still: the oldest event in the outbox was recorded {_ago(oldest)}.",
        act=Act.SEE_TO_WORKERS,
    )


def _letter_of_others(saga: SagaInstance) -> Why | None:
    """What fails, or has yet to be done, in the saga's conversation, by those whose doing has consequences: nobody
    waits for a read model or a mail."""
    letters = list(_jobs_for(saga).filter(state__in=Delivery.OPEN))
    if not letters:
        return None
    letter = max(letters, key=lambda each: (each.state == Delivery.State.DEAD, each.attempts, -each.position))
    if letter.error:
        return _about(letter, f"{letter.subscription}, which it waits for, fails")
    return _halt(letter.subscription, letter.partition) or Why(
        sentence=f"It waits for {letter.subscription}, which was asked {_ago(letter.created_at)}.",
        act=Act.SEE_TO_WORKERS if _is_slow(letter.created_at) else Act.WAIT,
        subscription=letter.subscription,
    )


def _given_up(saga: SagaInstance) -> Why | None:
    """What somebody has skipped, so that its outcome never came."""
    letter = _jobs_for(saga).filter(state=Delivery.State.SKIPPED).order_by("finished_at").last()
    return _skipped(letter) if letter else None


def _skipped(letter: Delivery) -> Why:
    ago = _ago(letter.finished_at or letter.due_at)
    return Why(
        sentence=f"{letter.subscription}, which it waits for, was given up {ago}: {letter.reason}",
        act=Act.TAKE_UP if isinstance(subscription_named(letter.subscription), EffectSubscription) else Act.SEE_TO_IT,
        letter=letter.pk,
        subscription=letter.subscription,
    )


def _jobs_for(saga: SagaInstance) -> QuerySet[Delivery]:
    """What others do in the saga's conversations, if something comes of it: the one that it began in, and those that
    people began who took part, such as by cancelling."""
    heard = StoredEvent.objects.filter(pk__in=saga.history.exclude(event_id=None).values("event_id"))
    conversations = set(heard.values_list("correlation_id", flat=True))
    if saga.correlation_id:
        conversations.add(saga.correlation_id)
    others = [each.name for each in subscriptions() if each.name != saga.saga and sent_by(each)]
    jobs = Delivery.objects.filter(event__correlation_id__in=conversations, subscription__in=others)
    return jobs.select_related("event")


def _about(letter: Delivery, consequence: str) -> Why:
    halt = _halt(letter.subscription, letter.partition)
    if halt and letter.state == Delivery.State.WAITING:
        return halt
    error = letter.error.partition(":")[0] or "an error"  # what follows may tell of a person
    what = f"{consequence}: {letter.event.type} at position {letter.position:,} failed with {error}"
    if letter.state == Delivery.State.DEAD:
        sentence, act = f"{what}, {_times(letter.attempts)}, and isn't tried any more.", Act.RETRY
    else:
        sentence, act = f"{what}, {_times(letter.attempts)}, and is tried again {_in(letter.due_at)}.", Act.WAIT
    return Why(sentence=sentence, act=act, letter=letter.pk, subscription=letter.subscription)


def _patience(saga: SagaInstance) -> Why:
    """Nothing is wrong that is known of: what it asked for last, and since when it waits."""
    waits = f"It last moved {_ago(saga.updated_at)}."
    for step in saga.history.order_by("-number"):
        if granted := [each["name"] for each in step.commands if not each["refused"]]:
            waits = f"It asked for {' and '.join(granted)} {_ago(step.taken_at)}, and waits for what comes of that."
            break
    if saga.deadline_at is None:
        return Why(sentence=waits, act=Act.WAIT)
    if saga.deadline_at > timezone.now():
        return Why(sentence=f"{waits} Its deadline is {_in(saga.deadline_at)}.", act=Act.WAIT)
    return Why(sentence=f"It missed its deadline {_ago(saga.deadline_at)}. {waits}", act=_by_person(saga))


def _by_person(saga: SagaInstance) -> Act:
    return Act.RESUME if saga_named(saga.saga).can_resume else Act.SEE_TO_IT


def _is_slow(since: datetime) -> bool:
    return timezone.now() - since > SLOW


def _times(attempts: int) -> str:
    return "once" if attempts == 1 else f"{attempts} times"


def _ago(when: datetime) -> str:
    return f"{_lasting(timezone.now() - when)} ago"


def _in(when: datetime) -> str:
    left = when - timezone.now()
    return f"in {_lasting(left)}" if left > timedelta(0) else "now"


def _lasting(time: timedelta) -> str:
    """How long, in the two largest units."""
    seconds = max(int(time.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    now = timezone.now()
    return timesince(now - time, now).replace("\xa0", " ")
