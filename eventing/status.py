"""How the log and those who read it are doing, from the database alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from django.db.models import Count, Min, Q
from django.utils import timezone

from eventing import checkpoints
from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry, RelayFailure, Replay
from eventing.replay import needing_replay
from eventing.statements import run
from eventing.subscriptions import subscriptions


class OutboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Events without a position: how many, the age of the oldest in seconds, and what the relay ran into."""

    backlog: int
    oldest_seconds: float
    retries: int
    last_error: str


class InboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What others told: how much isn't understood yet, and how much was given up and waits for a person."""

    waiting: int
    dead: int


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
    inbox: InboxStatus
    subscriptions: list[SubscriptionStatus]

    @property
    def at_rest(self) -> bool:
        """Whether nothing more will happen by itself: all is relayed, seen and done, or waits for a person."""
        return not self.outbox.backlog and not any(each.lag or each.waiting for each in self.subscriptions)


class WorstLag(msgspec.Struct, frozen=True, kw_only=True):
    """The subscription that has waited longest: positions of the log that it hasn't seen, and the age of the first."""

    subscription: str
    state: str
    positions: int
    seconds: float


class OpenReplay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay that is under way: how far it has come, in positions."""

    projection: str
    state: str
    position: int
    target: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a watchman wants to know, by statements that stay fast however much is stored or waits: the age of the
    oldest event without a position, who is furthest behind, and read models that need a replay or are in one."""

    relay_seconds: float | None = None
    worst_lag: WorstLag | None = None
    replays_needed: list[str] = []
    replays_open: list[OpenReplay] = []


# The first in the outbox by its primary key; the oldest by its time would read all that waits.
OLDEST_UNRELAYED = """
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM eventing_outbox ORDER BY id LIMIT 1
"""

# Each partition that is behind finds the first event that it hasn't seen by the log's primary key.
WORST_LAG = """
SELECT checkpoint.subscription, checkpoint.state, head.position - checkpoint.position AS positions,
    extract(epoch FROM clock_timestamp() - log.published_at)::float8 AS seconds
FROM eventing_checkpoint checkpoint
CROSS JOIN (SELECT coalesce(max(position), 0) AS position FROM eventing_log) head
JOIN eventing_log log ON log.position = checkpoint.position + 1
WHERE checkpoint.subscription = ANY(%(subscriptions)s)
ORDER BY log.published_at, positions DESC LIMIT 1
"""

# Each by its own partial index: most entries are done.
INBOX = """
SELECT (SELECT count(*) FROM eventing_inbox WHERE state = 'waiting'),
    (SELECT count(*) FROM eventing_inbox WHERE state = 'dead')
"""


def summary() -> Summary:
    """How things are now, in short."""
    oldest = run(OLDEST_UNRELAYED)
    worst = run(WORST_LAG, {"subscriptions": [each.name for each in subscriptions()]})
    open_replays = Replay.objects.filter(state__in=Replay.OPEN).order_by("projection")
    return Summary(
        relay_seconds=oldest[0][0] if oldest else 0.0,
        worst_lag=WorstLag(**dict(zip(WorstLag.__struct_fields__, worst[0], strict=True))) if worst else None,
        replays_needed=needing_replay(),
        replays_open=[
            OpenReplay(projection=each.projection, state=each.state, position=each.position, target=each.target)
            for each in open_replays.only("projection", "state", "position", "target")
        ],
    )


def status() -> Status:
    """How things are now."""
    head = checkpoints.head()
    return Status(head=head, outbox=_outbox(), inbox=_inbox(), subscriptions=_subscriptions(head))


def _outbox() -> OutboxStatus:
    found = OutboxEntry.objects.aggregate(backlog=Count("id"), oldest=Min("created_at"))
    failure = RelayFailure.objects.first()
    return OutboxStatus(
        backlog=found["backlog"],
        oldest_seconds=(timezone.now() - found["oldest"]).total_seconds() if found["oldest"] else 0.0,
        retries=failure.retries if failure else 0,
        last_error=failure.error if failure else "",
    )


def _inbox() -> InboxStatus:
    ((waiting, dead),) = run(INBOX)
    return InboxStatus(waiting=waiting, dead=dead)


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
