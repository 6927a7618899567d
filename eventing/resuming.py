"""Lets a saga go on, because a person says so: its letters are tried again, and then it hears of the person's wish."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from eventing import audit, deliveries, nudges
from eventing.domain import GIVEN_UP, RESUMED, Rejected
from eventing.models import Delivery, SagaInstance
from eventing.sagas import SagaSubscription
from eventing.statements import run
from eventing.subscriptions import UnknownSubscription, subscription_named, subscriptions

# A reminder that is due at once, so that the saga's own worker hands it over, after all that the saga hasn't seen. The
# wishes of two people who ask before it did are one.
RESUME = """
INSERT INTO eventing_timer (saga, key, about, partition, due_at, correlation_id)
SELECT saga, key, %(about)s, get_byte(sha256(convert_to(key::text, 'UTF8')), 0) %% %(partitions)s,
    statement_timestamp(), coalesce(correlation_id, gen_random_uuid())
FROM eventing_saga WHERE id = %(id)s
ON CONFLICT (saga, key, about) DO UPDATE SET due_at = excluded.due_at, attempts = 0
"""

# Reminders that failed are tried again at once, too.
REMIND_AGAIN = """
UPDATE eventing_timer SET due_at = statement_timestamp(), attempts = 0
WHERE saga = %(saga)s AND key = %(key)s AND attempts > 0
"""


class NotResumable(Rejected):
    """Resuming this saga would change nothing."""


class UnknownSaga(LookupError):
    """There is no such saga, or more than one."""


class Resumption(NamedTuple):
    """What resuming does: how many of its letters are tried again, and whether the saga hears of it."""

    letters: int
    hears: bool


def saga_named(name: str) -> SagaSubscription:
    """The saga of this name. Raises UnknownSubscription."""
    subscription = subscription_named(name)
    if not isinstance(subscription, SagaSubscription):
        names = ", ".join(each.name for each in sagas())
        raise UnknownSubscription(f"{name} is no saga but of the kind {subscription.kind}. Sagas are: {names}.")
    return subscription


def sagas() -> list[SagaSubscription]:
    """Every saga that the program defines."""
    return [each for each in subscriptions() if isinstance(each, SagaSubscription)]


def find(key: UUID, name: str = "") -> SagaInstance:
    """The saga of this key. Raises UnknownSaga, also when several sagas have the key and none is named."""
    names = [name] if name else [each.name for each in sagas()]
    found = list(SagaInstance.objects.filter(saga__in=names, key=key).order_by("saga"))
    if not found:
        raise UnknownSaga(f"There is no saga {f'{name} ' if name else ''}with the key {key}.")
    if len(found) > 1:
        raise UnknownSaga(f"Several sagas have the key {key}: say which of {', '.join(each.saga for each in found)}.")
    return found[0]


def plan(saga: SagaInstance) -> Resumption:
    """What resuming would do. Raises NotResumable when that is nothing."""
    subscription, letters = saga_named(saga.saga), letters_of(saga)
    failed = letters.count()
    if saga.ended_at and not saga.failed and not failed:
        raise NotResumable(f"{saga.saga} {saga.key} has ended {saga.state}: there is nothing to resume.")
    if not subscription.can_resume and not failed:
        raise NotResumable(
            f"{saga.saga} {saga.key} can't be resumed: no letter of it waits to be tried again, and as its `react` "
            "doesn't consume `Resumed`, it wouldn't hear of it."
        )
    return Resumption(letters=failed, hears=subscription.can_resume)


def resume(saga: SagaInstance, *, who: User, **noted: str) -> Resumption:
    """Try the saga's letters again, and let it react to `Resumed` once it has seen everything. One that has ended well
    does nothing about it. ``noted`` is written down as well. Raises NotResumable."""
    subscription = saga_named(saga.saga)
    with transaction.atomic():
        hears, letters = plan(saga).hears, deliveries.retry(letters_of(saga))
        run(REMIND_AGAIN, {"saga": saga.saga, "key": saga.key})
        if hears:
            run(RESUME, {"id": saga.pk, "about": RESUMED, "partitions": subscription.partitions})
        audit.note(who, "resumed", saga, state=saga.state, letters=letters, **noted)
        transaction.on_commit(partial(nudges.send, subscription.nudges))
    return Resumption(letters=letters, hears=hears)


def letters_of(saga: SagaInstance) -> QuerySet[Delivery]:
    """The events that the saga failed at, and those of which it was told that an effect had given them up: they're
    tried again later, or wait for a person."""
    own = Q(subscription=saga.saga, sequence=str(saga.key))
    return deliveries.failed().filter(own | Q(pk__in=given_up_for(saga)))


def given_up_for(saga: SagaInstance) -> list[int]:
    """The letters of which the saga was told that they were given up, the latest first."""
    told = saga.history.filter(about__startswith=GIVEN_UP).order_by("-number")
    return [int(about.removeprefix(GIVEN_UP)) for about in told.values_list("about", flat=True)]
