"""Lets everything that waits be done here and now, without workers."""

from __future__ import annotations

from eventing.advance import advance, remind_due, retry_due
from eventing.effects import EffectSubscription, perform_due
from eventing.relay import relay_all
from eventing.subscriptions import Subscription, subscriptions


def settle() -> None:
    """Relay, advance every subscription and perform every effect, until nothing more happens by itself."""
    while any([bool(sum(relay_all())), *[_advance(subscription) for subscription in subscriptions()]]):
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
        perform_due(subscription, budget=60)
    return happened
