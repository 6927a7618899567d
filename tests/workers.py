"""What the relay and the workers do, in the test's own process and transaction."""

from __future__ import annotations

from eventing.advance import advance, remind_due, retry_due
from eventing.effects import EffectSubscription, perform_due
from eventing.relay import relay_once
from eventing.subscriptions import Subscription, subscriptions


def work_until_idle() -> None:
    """Until everything that can be done by now is done."""
    while _relay() + sum(_work(subscription) for subscription in subscriptions()):
        pass


def _relay() -> int:
    moved = relay_once()
    return moved.events if moved else 0


def _work(subscription: Subscription) -> int:
    """Returns how often there was something to do; what an effect led to is found in the outbox."""
    steps = sum(_advance(subscription, partition) for partition in range(subscription.partitions))
    if isinstance(subscription, EffectSubscription):
        perform_due(subscription, budget=60)
    return steps


def _advance(subscription: Subscription, partition: int) -> int:
    steps = 0
    while advance(subscription, partition) or _catch_up(subscription, partition):
        steps += 1
    return steps


def _catch_up(subscription: Subscription, partition: int) -> bool:
    if isinstance(subscription, EffectSubscription):
        return False
    return retry_due(subscription, partition) or remind_due(subscription, partition)
