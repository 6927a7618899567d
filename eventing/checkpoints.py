"""The checkpoints of all subscriptions: made where they are missing, paused, resumed, and split anew."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import Max

from eventing import nudges
from eventing.models import Checkpoint, Delivery, LogEntry
from eventing.statements import run
from eventing.subscriptions import Subscription, subscriptions

# By the same rule as events, so that a saga's reminders come to the partition that its events come to.
SPLIT_TIMERS = """
UPDATE eventing_timer SET partition = get_byte(sha256(convert_to(key::text, 'UTF8')), 0) %% %(partitions)s
WHERE saga = %(saga)s
"""


class NotDrained(Exception):
    """The partitions of a subscription aren't all at one position yet."""


def head() -> int:
    """The position of the last event in the log, 0 when there is none."""
    return LogEntry.objects.aggregate(head=Max("position"))["head"] or 0


def make_missing(**_: Any) -> None:
    """Give each subscription that has none its checkpoints. A projection begins at the beginning; a saga or an effect
    at the head, for what happened before it existed is none of its business. Runs after each `migrate`."""
    if Checkpoint._meta.db_table not in connection.introspection.table_names():
        return  # migrated back to where there are none
    with transaction.atomic():
        existing = set(Checkpoint.objects.values_list("subscription", flat=True).distinct())
        Checkpoint.objects.bulk_create(
            [
                Checkpoint(
                    subscription=subscription.name,
                    partition=partition,
                    position=head() if subscription.starts_at_head else 0,
                    version=subscription.version,
                )
                for subscription in subscriptions()
                if subscription.name not in existing
                for partition in range(subscription.partitions)
            ],
            ignore_conflicts=True,
        )


def is_running(subscription: Subscription, partition: int) -> bool:
    """Whether a partition is neither paused nor being replayed."""
    return Checkpoint.objects.filter(
        subscription=subscription.name, partition=partition, state=Checkpoint.State.RUNNING
    ).exists()


def pause(subscription: Subscription) -> int:
    """Stop a subscription after the batch that is under way. Returns how many partitions it stopped."""
    return Checkpoint.objects.filter(subscription=subscription.name, state=Checkpoint.State.RUNNING).update(
        state=Checkpoint.State.PAUSED
    )


def resume(subscription: Subscription) -> int:
    """Let a paused subscription go on. Returns how many partitions go on."""
    resumed = Checkpoint.objects.filter(subscription=subscription.name, state=Checkpoint.State.PAUSED).update(
        state=Checkpoint.State.RUNNING
    )
    transaction.on_commit(partial(nudges.send, subscription.nudges))
    return resumed


def repartition(subscription: Subscription) -> None:
    """Split a paused subscription into as many partitions as its declaration now says. Raises NotDrained unless all
    its partitions are at one position and nothing of it waits: any other split would lose or repeat events."""
    with transaction.atomic():
        rows = list(Checkpoint.objects.select_for_update().filter(subscription=subscription.name))
        positions = {row.position for row in rows}
        waiting = Delivery.objects.filter(subscription=subscription.name, state__in=Delivery.OPEN).count()
        if len(positions) != 1 or waiting or any(row.state != Checkpoint.State.PAUSED for row in rows):
            raise NotDrained(
                f"The partitions of {subscription.name} are at {sorted(positions)}, and {waiting} events of it wait "
                "apart. Let it catch up while nothing is recorded, settle its dead letters, pause it with "
                f"`manage.py subscriptions pause {subscription.name}`, and try again."
            )
        Checkpoint.objects.filter(subscription=subscription.name).delete()
        Checkpoint.objects.bulk_create(
            Checkpoint(
                subscription=subscription.name,
                partition=partition,
                position=positions.copy().pop(),
                state=Checkpoint.State.PAUSED,
                version=rows[0].version,
            )
            for partition in range(subscription.partitions)
        )
        run(SPLIT_TIMERS, {"saga": subscription.name, "partitions": subscription.partitions})
