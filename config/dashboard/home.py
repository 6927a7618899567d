"""The first page: is everything going well, and if not, where to look."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, NamedTuple

from django.db.models import Count
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from eventing.operations.page import Page
from eventing.statements import run
from eventing.status import InboxStatus, Status, SubscriptionStatus, status
from orders.models import OrderSummary
from orders.models import Status as OrderStatus

MINUTES = 60  # that the chart of orders goes back
VISIBLE_IN = "orders.OrderSummaries"  # the read model that most people look at

# By the index on placed_recorded_at. Minutes without an order are there too.
ORDERS_A_MINUTE = """
SELECT minute, count(orders.order_id)
FROM generate_series(
    date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s - 1),
    date_trunc('minute', statement_timestamp()), interval '1 minute'
) AS minute
LEFT JOIN (
    SELECT order_id, date_trunc('minute', placed_recorded_at) AS minute FROM orders_ordersummary
    WHERE placed_recorded_at >= date_trunc('minute', statement_timestamp()) - make_interval(mins => %(minutes)s - 1)
) AS orders USING (minute)
GROUP BY minute ORDER BY minute
"""

# Milliseconds from being recorded to being seen, of the events that a subscription handled last.
LAGS = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY lag), percentile_disc(0.99) WITHIN GROUP (ORDER BY lag), count(*)
FROM eventing_checkpoint, unnest(lags) AS lag WHERE subscription = %(subscription)s
"""

# Sequences that wait for a person, and the events that wait behind the dead ones. By the index of open deliveries.
BLOCKED = """
WITH dead AS (
    SELECT subscription, sequence, min(position) AS position FROM eventing_delivery
    WHERE state = 'dead' GROUP BY subscription, sequence
)
SELECT count(*), coalesce(sum((
    SELECT count(*) FROM eventing_delivery behind
    WHERE behind.subscription = dead.subscription AND behind.sequence = dead.sequence
        AND behind.state = 'waiting' AND behind.position > dead.position
)), 0)::bigint
FROM dead
"""

# By the two partial indexes over sagas that somebody may have to see to.
SAGAS = """
SELECT (SELECT count(*) FROM eventing_saga WHERE ended_at IS NULL AND deadline_at <= statement_timestamp()),
    (SELECT count(*) FROM eventing_saga WHERE failed)
"""


class Tile(NamedTuple):
    """One figure: what it is, how much, what more there is to say, how it looks (good, waiting, bad or nothing), what
    exactly it tells, and the address of the page that helps."""

    title: str
    figure: str
    says: str
    look: str
    meaning: str
    link: str


class Chart(NamedTuple):
    """A chart, and all that its table twin needs: columns of one value a row."""

    name: str
    title: str
    columns: tuple[str, str]
    rows: list[tuple[str, int]]


class Home(Page):
    """Whatever there is to see to, in figures that lead to the page that helps."""

    title = "Home"
    permission_required = ()  # whoever may come in; the figures take a permission
    template_name, fragment, refresh_seconds = "dashboard/home.html", "dashboard/_home.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        if not self.user.has_perm("eventing.view_checkpoint"):
            return super().get_context_data(**kwargs)
        minutes = orders_a_minute()
        now = status()
        today = orders_today()
        tiles = [
            _orders(today),
            _pace(minutes),
            _lag(),
            _outbox(now),
            _subscriptions(now.subscriptions),
            _letters(now.subscriptions),
            _sagas(),
            _inbox(now.inbox),
        ]
        charts = [
            Chart("pace", f"Orders a minute, last {MINUTES} minutes", ("Minute", "Orders"), minutes),
            Chart("states", "Orders of today by state", ("State", "Orders"), list(today.items())),
        ]
        return super().get_context_data(**kwargs, tiles=tiles, charts=charts, subscriptions=now.subscriptions)


def orders_today() -> dict[str, int]:
    """How many orders were recorded today, in the site's time zone, by the state that they're in now."""
    found = OrderSummary.objects.filter(placed_recorded_at__gte=_midnight()).order_by()
    counts = dict(found.values_list("status").annotate(Count("order_id")))
    return {state.value: counts.get(state.value, 0) for state in OrderStatus}


def orders_a_minute() -> list[tuple[str, int]]:
    """How many orders were recorded in each of the last minutes; the last one isn't over yet."""
    rows = run(ORDERS_A_MINUTE, {"minutes": MINUTES})
    return [(f"{timezone.localtime(minute):%H:%M}", count) for minute, count in rows]


def _midnight() -> datetime:
    return datetime.combine(timezone.localdate(), time.min, tzinfo=timezone.get_current_timezone())


def _orders(today: dict[str, int]) -> Tile:
    states = ", ".join(f"{count:,} {state}" for state, count in today.items() if count)
    return Tile(
        "Orders today",
        f"{sum(today.values()):,}",
        states or "none yet",
        "",
        "Orders recorded since midnight, by the state they're in now. Imported orders count on the day of the import.",
        _address("admin:orders_ordersummary_changelist"),
    )


def _pace(minutes: list[tuple[str, int]]) -> Tile:
    since = timezone.now() - timedelta(minutes=5)
    pace = OrderSummary.objects.filter(placed_recorded_at__gte=since).count() / 5
    return Tile(
        "Orders a minute",
        f"{pace:,.1f}",
        f"{sum(count for _, count in minutes):,} in the last hour",
        "",
        "The mean of the last five minutes, by when orders were recorded.",
        _address("admin:orders_ordersummary_changelist"),
    )


def _lag() -> Tile:
    ((half, most, sampled),) = run(LAGS, {"subscription": VISIBLE_IN})
    return Tile(
        "Commit to visible",
        _span(half) if sampled else "unknown",
        f"half within that, 99 % within {_span(most)}" if sampled else "nothing seen yet",
        "waiting" if sampled and most > 5_000 else "",
        f"From an event's being recorded to its being in the order list, of the last {sampled or 0} events that were "
        "measured there (up to sixteen of each batch).",
        _address("operations:subscriptions"),
    )


def _outbox(now: Status) -> Tile:
    outbox = now.outbox
    oldest = f"the oldest for {_span(outbox.oldest_seconds * 1000)}" if outbox.backlog else "all are in the log"
    return Tile(
        "Outbox",
        f"{outbox.backlog:,}",
        f"{oldest}; the relay fails: {outbox.last_error}" if outbox.retries else oldest,
        "bad" if outbox.retries else "waiting" if outbox.oldest_seconds > 10 else "good",
        "Events that are committed and have no position in the log yet.",
        _address("operations:outbox", "admin:eventing_outboxentry_changelist"),
    )


def _subscriptions(known: list[SubscriptionStatus]) -> Tile:
    behind = sorted((each for each in known if each.lag), key=lambda each: -each.lag)
    still = [each.name for each in known if each.state != "running"]
    worst = f"{behind[0].name} by {behind[0].lag:,}" if behind else f"all {len(known)} have seen the whole log"
    return Tile(
        "Subscriptions behind",
        f"{len(behind):,}",
        f"{worst}; not running: {', '.join(still)}" if still else worst,
        "bad" if still else "waiting" if any(each.lag > 1_000 for each in behind) else "good",
        "Subscriptions that haven't seen the end of the log, and the one that is furthest from it, in positions.",
        _address("operations:subscriptions", "admin:eventing_checkpoint_changelist"),
    )


def _letters(known: list[SubscriptionStatus]) -> Tile:
    dead, waiting = sum(each.dead for each in known), sum(each.waiting for each in known)
    ((blocked, behind),) = run(BLOCKED)
    return Tile(
        "Dead letters",
        f"{dead:,}",
        f"{_many(blocked, 'sequence')} blocked, {_many(behind, 'event')} behind; {waiting:,} under way",
        "bad" if dead else "good",
        "Events that were given up and wait for a person. Later events of the same sequence wait behind them.",
        _address("operations:letters", "admin:eventing_delivery_changelist"),
    )


def _sagas() -> Tile:
    ((late, failed),) = run(SAGAS)
    return Tile(
        "Sagas past their deadline",
        f"{late:,}",
        f"{failed:,} failed and wait for a person",
        "bad" if failed else "waiting" if late else "good",
        "Sagas that should have ended by now and haven't; and those that couldn't undo what was done.",
        _address("operations:sagas", "admin:eventing_sagainstance_changelist"),
    )


def _inbox(inbox: InboxStatus) -> Tile:
    return Tile(
        "Dead inbox entries",
        f"{inbox.dead:,}",
        f"{inbox.waiting:,} under way",
        "bad" if inbox.dead else "good",
        "What gateways and carriers told that was given up and waits for a person: see `manage.py inbox list`.",
        _address("admin:eventing_inboxentry_changelist"),
    )


def _span(milliseconds: float) -> str:
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    return str(timedelta(seconds=round(milliseconds / 1000)))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def _address(*names: str) -> str:
    """Of the first of these pages that there is."""
    for name in names:
        try:
            return reverse(name)
        except NoReverseMatch:
            continue
    return ""
