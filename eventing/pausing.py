"""Pausing and resuming subscriptions, as operators do it: written down."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from eventing import audit, checkpoints
from eventing.models import Checkpoint
from eventing.subscriptions import Subscription


def pause(subscription: Subscription, *, who: User, **noted: Any) -> int:
    """Stop a subscription after the batch that is under way. Returns how many partitions it stopped."""
    with transaction.atomic():
        return _noted(who, "paused", subscription, checkpoints.pause(subscription), noted)


def resume(subscription: Subscription, *, who: User, **noted: Any) -> int:
    """Let a paused subscription go on. Returns how many partitions go on."""
    with transaction.atomic():
        return _noted(who, "resumed", subscription, checkpoints.resume(subscription), noted)


def _noted(who: User, act: str, subscription: Subscription, partitions: int, noted: dict[str, Any]) -> int:
    """What changed nothing isn't written down."""
    if partitions:
        first = Checkpoint.objects.filter(subscription=subscription.name).earliest("partition")
        audit.note(who, act, first, subscription=subscription.name, partitions=partitions, **noted)
    return partitions
