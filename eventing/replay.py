"""Rebuilds a read model from the log, in place: its rows are emptied and projected again from the first event.

Until that is done, readers see what has been rebuilt so far. A replay that was interrupted goes on where it stopped,
because its checkpoint is the only thing that it remembers. Nothing but a projection can be replayed: sagas and
effects would do again what they did.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection, transaction

from eventing import checkpoints, nudges
from eventing.advance import advance
from eventing.models import Checkpoint, Delivery
from eventing.projections import ProjectionSubscription
from eventing.subscriptions import subscription_named, subscriptions

BATCH = 2000


class NotReplayable(Exception):
    """Only projections can be replayed."""


def projections() -> list[ProjectionSubscription]:
    """Everything that can be replayed."""
    return [each for each in subscriptions() if isinstance(each, ProjectionSubscription)]


def projection_named(name: str) -> ProjectionSubscription:
    """The projection of this name. Raises UnknownSubscription or NotReplayable."""
    subscription = subscription_named(name)
    if not isinstance(subscription, ProjectionSubscription):
        raise NotReplayable(
            f"{name} is a {subscription.kind}, which can't be replayed: it would do again what it did. "
            f"Projections are: {', '.join(each.name for each in projections())}."
        )
    return subscription


def replay(projection: ProjectionSubscription) -> Iterator[int]:
    """Rebuild a read model, or go on with a rebuilding that was interrupted. Yields the number of log positions that
    are behind each step, over all partitions; live updates go on afterwards from where the replay ended."""
    _begin(projection)
    for partition in range(projection.partitions):
        before = _position(projection, partition)
        if before:
            yield before
        while advance(projection, partition, state=Checkpoint.State.REPLAYING, batch=BATCH):
            after = _position(projection, partition)
            yield after - before
            before = after
    _end(projection)


def _begin(projection: ProjectionSubscription) -> None:
    """Stop live updates and empty the read model, unless that has been done by a replay that was interrupted."""
    with transaction.atomic():
        rows = Checkpoint.objects.select_for_update().filter(subscription=projection.name)
        if all(row.state == Checkpoint.State.REPLAYING for row in rows):
            return
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(projection.projection.model._meta.db_table)
            cursor.execute(f"TRUNCATE {table}")
        Delivery.objects.filter(subscription=projection.name).delete()
        rows.update(state=Checkpoint.State.REPLAYING, position=0, attempts=0, begun_at=None, careful_until=0)


def _end(projection: ProjectionSubscription) -> None:
    Checkpoint.objects.filter(subscription=projection.name, state=Checkpoint.State.REPLAYING).update(
        state=Checkpoint.State.RUNNING
    )
    nudges.send(projection.nudges)


def _position(projection: ProjectionSubscription, partition: int) -> int:
    return Checkpoint.objects.get(subscription=projection.name, partition=partition).position


def total(projection: ProjectionSubscription) -> int:
    """How many log positions a replay has to go through, over all partitions."""
    return checkpoints.head() * projection.partitions
