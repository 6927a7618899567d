"""A hot article: one that nearly every order wants."""

from __future__ import annotations

import pytest

from eventing import recent, snapshots, states, store
from eventing.models import Snapshot
from eventing.records import Stream
from eventing.snapshots import Verdict
from inventory.aggregates import StockItem
from inventory.events import StockEvent, StockItemListed, StockReceived, StockReleased, StockReserved, StockShipped
from tests.builders import HEART, ORDER, pounds

pytestmark = pytest.mark.django_db

STREAM = Stream.of(StockItem, HEART)


@pytest.fixture
def hot() -> StockItem:
    """Listed, delivered, 300 times reserved, shipped or released; with a snapshot of all but the last two events."""
    events: list[StockEvent] = [
        StockItemListed(sku=HEART, description="White hanging heart", list_price=pounds("2.55")),
        StockReceived(sku=HEART, quantity=1_000, reference="delivery 1"),
        StockReceived(sku=HEART, quantity=1_000, reference="delivery 2"),
    ]
    for _ in range(100):
        events += [
            StockReserved(sku=HEART, order_id=ORDER, quantity=3),
            StockShipped(sku=HEART, order_id=ORDER, quantity=2),
            StockReleased(sku=HEART, order_id=ORDER, quantity=1),
        ]
    store.append(STREAM, events[:-2], expected=0)
    snapshots.take(STREAM)
    store.append(STREAM, events[-2:], expected=301)
    recent.forget()
    return store.load(StockItem, HEART)


def test_it_is_what_its_events_make_it(hot: StockItem) -> None:
    assert (hot.version, hot.on_hand, hot.reserved) == (303, 1_800, 0)
    assert hot.references == {"delivery 1", "delivery 2"}
    assert hot.list_price == pounds("2.55")
    Snapshot.objects.all().delete()
    assert states.state_of(store.load(StockItem, HEART)) == states.state_of(hot)


def test_it_is_loaded_by_what_came_after_its_snapshot(hot: StockItem, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[StockEvent] = []
    monkeypatch.setattr(StockItem, "apply", lambda self, event: applied.append(event))
    store.load(StockItem, HEART)
    assert [type(event) for event in applied] == [StockShipped, StockReleased]


def test_its_snapshot_is_right(hot: StockItem) -> None:
    assert [each.verdict for each in snapshots.verify()] == [Verdict.RIGHT]
