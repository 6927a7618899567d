"""The first page tells the truth."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from config.dashboard.home import Tile, orders_a_minute, orders_today
from eventing.handlers import dispatch
from eventing.models import Checkpoint, Delivery, InboxEntry, SagaInstance
from eventing.relay import relay_all
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import CancelOrder, PlaceOrder
from orders.models import OrderSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, pounds
from tests.clients import with_role

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer() -> Client:
    return with_role("viewer")


@pytest.fixture(autouse=True)
def stock() -> None:
    for sku in (HEART, LANTERN):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds("1.00")))
        dispatch(ReceiveStock(sku=sku, quantity=1_000))
    settle()


def tiles(client: Client) -> dict[str, Tile]:
    return {tile.title: tile for tile in client.get("/admin/").context["tiles"]}


def place() -> PlaceOrder:
    command = PlaceOrder(order_id=uuid4(), customer_id=CUSTOMER, reference="", lines=LINES, payment_method="tok_visa")
    dispatch(command)
    return command


def test_orders_of_today_are_counted_by_the_state_they_are_in_now(viewer: Client) -> None:
    place()
    dispatch(CancelOrder(order_id=place().order_id, reason="Changed my mind"))
    yesterday = place()
    settle()
    long_ago = timezone.localtime().replace(hour=0, minute=0, second=0) - timedelta(seconds=1)
    OrderSummary.objects.filter(order_id=yesterday.order_id).update(placed_recorded_at=long_ago)

    assert sum(orders_today().values()) == 2
    assert orders_today()["cancelled"] == 1
    assert tiles(viewer)["Orders today"].figure == "2"


def test_every_minute_of_the_last_hour_has_its_count() -> None:
    place()
    earlier = place()
    settle()
    ten_minutes_ago = timezone.now() - timedelta(minutes=10)
    OrderSummary.objects.filter(order_id=earlier.order_id).update(placed_recorded_at=ten_minutes_ago)

    minutes = orders_a_minute()
    assert len(minutes) == 60
    assert sum(count for _, count in minutes) == 2
    assert (f"{timezone.localtime(ten_minutes_ago):%H:%M}", 1) in minutes


def test_the_outbox_and_who_is_behind_are_told_as_they_are(viewer: Client) -> None:
    place()
    assert tiles(viewer)["Outbox"].figure != "0"
    sum(relay_all())
    now = tiles(viewer)
    assert now["Outbox"].figure == "0"
    assert now["Subscriptions behind"].figure != "0"
    settle()
    assert tiles(viewer)["Subscriptions behind"].figure == "0"


def test_what_was_seen_says_how_long_it_took(viewer: Client) -> None:
    assert tiles(viewer)["Commit to visible"].figure == "unknown"
    place()
    settle()

    checkpoint = Checkpoint.objects.get(subscription="orders.OrderSummaries")
    assert checkpoint.lags
    assert all(0 <= lag < 60_000 for lag in checkpoint.lags)
    assert tiles(viewer)["Commit to visible"].figure != "unknown"


def test_what_waits_for_a_person_is_told(viewer: Client) -> None:
    place()
    settle()
    dead = {"subscription": "orders.OrderSummaries", "partition": 0, "sequence": "order-1", "event_id": uuid4()}
    Delivery.objects.create(**dead, position=1, state="dead")
    Delivery.objects.create(**dead, position=2, state="waiting")
    late = timezone.now() - timedelta(minutes=1)
    SagaInstance.objects.create(saga="S", key=uuid4(), state="PAYMENT_PENDING", memory={}, deadline_at=late)
    SagaInstance.objects.create(saga="S", key=uuid4(), state="FAILED", memory={}, ended_at=late, failed=True)
    told = {"source": "payments", "provider": "stripe", "body": b"", "attempts": 8, "received_at": late, "due_at": late}
    InboxEntry.objects.create(**told, event_id="evt_1", state="dead")
    InboxEntry.objects.create(**told, event_id="evt_2", state="skipped")

    now = tiles(viewer)
    assert (now["Dead letters"].figure, now["Dead letters"].look) == ("1", "bad")
    assert now["Dead letters"].says.startswith("1 sequence blocked, 1 event behind")
    assert now["Sagas past their deadline"].figure == "1"
    assert now["Sagas past their deadline"].says.startswith("1 failed")
    assert (now["Dead inbox entries"].figure, now["Dead inbox entries"].look) == ("1", "bad")


def test_a_refresh_brings_the_figures_alone(viewer: Client) -> None:
    page = viewer.get("/admin/").content.decode()
    fragment = viewer.get("/admin/", headers={"HX-Request": "true"}).content.decode()

    assert "Orders today" in fragment
    assert "<html" in page
    assert "<html" not in fragment


def test_who_may_see_nothing_is_told_which_permission_it_takes() -> None:
    client = Client()
    client.force_login(User.objects.create_user("new", is_staff=True))

    page = client.get("/admin/").content.decode()
    assert "Can view checkpoint" in page
    assert "Orders today" not in page
