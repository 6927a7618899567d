"""How the log and those who read it are doing, from the database alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from django.db.models import Count, Min, Q
from django.utils import timezone

from eventing import checkpoints
from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry, RelayFailure
from eventing.subscriptions import subscriptions


class OutboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Events without a position: how many, the age of the oldest in seconds, and what the relay ran into."""

    backlog: int
    oldest_seconds: float
    retries: int
    last_error: str


class SubscriptionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription: lag in log positions and in seconds, which is the age of the first event that it hasn't seen;
    events a second in its last batch, and what waits apart."""

    name: str
    kind: str
    state: str
    partitions: int
    position: int
    lag: int
    lag_seconds: float
    rate: float
    handled: int
    waiting: int
    dead: int
    moved_at: datetime | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    head: int
    outbox: OutboxStatus
    subscriptions: list[SubscriptionStatus]

    @property
    def at_rest(self) -> bool:
        """Whether nothing more will happen by itself: all is relayed, seen and done, or waits for a person."""
        return not self.outbox.backlog and not any(each.lag or each.waiting for each in self.subscriptions)


def status() -> Status:
    """How things are now."""
    head = checkpoints.head()
    return Status(head=head, outbox=_outbox(), subscriptions=_subscriptions(head))


def _outbox() -> OutboxStatus:
    found = OutboxEntry.objects.aggregate(backlog=Count("id"), oldest=Min("created_at"))
    failure = RelayFailure.objects.first()
    return OutboxStatus(
        backlog=found["backlog"],
        oldest_seconds=(timezone.now() - found["oldest"]).total_seconds() if found["oldest"] else 0.0,
        retries=failure.retries if failure else 0,
        last_error=failure.error if failure else "",
    )


def _subscriptions(head: int) -> list[SubscriptionStatus]:
    partitions: dict[str, list[Checkpoint]] = {}
    for row in Checkpoint.objects.all():
        partitions.setdefault(row.subscription, []).append(row)
    letters: dict[str, dict[str, Any]] = {
        row["subscription"]: dict(row)
        for row in Delivery.objects.filter(state__in=Delivery.OPEN)
        .values("subscription")
        .annotate(waiting=Count("id", filter=Q(state="waiting")), dead=Count("id", filter=Q(state="dead")))
    }
    nexts = {row.position + 1 for rows in partitions.values() for row in rows if row.position < head}
    published = LogEntry.objects.filter(position__in=nexts).values_list("position", "published_at")
    ages = {position: (timezone.now() - at).total_seconds() for position, at in published}
    return [
        _subscription(each.name, each.kind, partitions.get(each.name, []), letters.get(each.name, {}), head, ages)
        for each in subscriptions()
    ]


def _subscription(
    name: str, kind: str, rows: list[Checkpoint], letters: dict[str, Any], head: int, ages: dict[int, float]
) -> SubscriptionStatus:
    position = min((row.position for row in rows), default=0)
    return SubscriptionStatus(
        name=name,
        kind=kind,
        state=" and ".join(sorted({row.state for row in rows})) or "missing: run `manage.py migrate`",
        partitions=len(rows),
        position=position,
        lag=max((head - row.position for row in rows), default=head),
        lag_seconds=max((ages.get(row.position + 1, 0.0) for row in rows), default=0.0),
        rate=sum(row.rate for row in rows),
        handled=sum(row.handled for row in rows),
        waiting=letters.get("waiting", 0),
        dead=letters.get("dead", 0),
        moved_at=max((row.moved_at for row in rows if row.moved_at), default=None),
    )
