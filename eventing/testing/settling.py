"""Lets everything that waits be done here and now, without workers."""

from __future__ import annotations

from django.db.models import Sum

from eventing import inbox
from eventing.advance import advance, remind_due, retry_due
from eventing.effects import EffectSubscription, perform_due
from eventing.models import Delivery
from eventing.relay import relay_all
from eventing.subscriptions import Subscription, subscriptions


def settle() -> None:
    """Relay, advance every subscription, perform every effect, and hear what was told, until nothing more happens by
    itself."""
    while any([inbox.work(), bool(sum(relay_all())), *[_advance(subscription) for subscription in subscriptions()]]):
        pass


def _advance(subscription: Subscription) -> bool:
    happened = False
    for partition in range(subscription.partitions):
        while advance(subscription, partition):
            happened = True
        if not isinstance(subscription, EffectSubscription):
            while retry_due(subscription, partition) or remind_due(subscription, partition):
                happened = True
    if isinstance(subscription, EffectSubscription):
        before = _attempts(subscription)
        perform_due(subscription, budget=60)
        happened = happened or _attempts(subscription) != before
    return happened


def _attempts(subscription: Subscription) -> int:
    """How often its jobs have been begun."""
    made = Delivery.objects.filter(subscription=subscription.name).aggregate(attempts=Sum("attempts"))
    return made["attempts"] or 0
