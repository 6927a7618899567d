"""Lists of orders, payments, shipments and articles: what is searched for is found, by an index."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from eventing.contact import Contact
from eventing.handlers import dispatch
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from orders.models import OrderSummary
from payments.models import PaymentSummary
from shipping.models import ShipmentSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, pounds

pytestmark = pytest.mark.django_db

ORDERS = reverse("admin:orders_ordersummary_changelist")
LISTS = [
    ORDERS,
    reverse("admin:payments_paymentsummary_changelist"),
    reverse("admin:shipping_shipmentsummary_changelist"),
    reverse("admin:inventory_stocklevel_changelist"),
]


@pytest.fixture(autouse=True)
def orders() -> None:
    for sku in (HEART, LANTERN):
        dispatch(ListStockItem(sku=sku, description="A thing", list_price=pounds("1")))
        dispatch(ReceiveStock(sku=sku, quantity=50))
    ann = Contact(name="Ann Archer", email="ann@example.org")
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="536365", contact=ann))
    dispatch(PlaceOrder(order_id=uuid4(), customer_id=uuid4(), lines=LINES[1:2], reference="Another"))
    settle()


def somebody(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def found(client: Client, address: str, **asked: str) -> list[Any]:
    answer = client.get(address, asked)
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


def test_an_order_is_found_by_whatever_it_is_known_by() -> None:
    viewer = somebody("viewer")
    tracking = ShipmentSummary.objects.get(order_id=ORDER).tracking_number
    for term in (str(ORDER), str(CUSTOMER), "536365", HEART, tracking, f" {ORDER} "):
        assert found(viewer, ORDERS, q=term) == [ORDER], term
    assert len(found(viewer, ORDERS, q=LANTERN)) == 2
    assert found(viewer, ORDERS, q="nothing like it") == []
    assert len(found(viewer, ORDERS)) == 2


def test_an_order_is_found_by_email_only_by_those_who_may_see_it() -> None:
    assert found(somebody("viewer"), ORDERS, q="ann@example.org") == []
    assert found(somebody("operator"), ORDERS, q="ann@example.org") == []
    assert found(somebody("administrator"), ORDERS, q="Ann@Example.org") == [ORDER]


def test_orders_are_filtered_by_status_and_date() -> None:
    viewer = somebody("viewer")
    assert len(found(viewer, ORDERS, status__exact="confirmed")) == 2
    assert found(viewer, ORDERS, status__exact="cancelled") == []
    assert found(viewer, ORDERS, placed_at__gte="2999-01-01 00:00:00+00:00") == []


def test_payments_and_shipments_are_found_too() -> None:
    viewer = somebody("viewer")
    payment, shipment = PaymentSummary.objects.get(pk=PAYMENT), ShipmentSummary.objects.get(pk=SHIPMENT_ID)
    for term in (str(PAYMENT), str(ORDER), payment.charge_reference):
        assert found(viewer, LISTS[1], q=term) == [PAYMENT]
    for term in (str(SHIPMENT_ID), str(ORDER), shipment.tracking_number):
        assert found(viewer, LISTS[2], q=term) == [SHIPMENT_ID]
    assert found(viewer, LISTS[3], q=HEART) == [HEART]
    assert found(viewer, LISTS[3], q="thing") == [LANTERN, HEART]


def test_rows_lead_to_their_pages() -> None:
    viewer = somebody("viewer")
    order = reverse("dashboard:order", args=[ORDER])
    assert f'href="{order}' in viewer.get(ORDERS).content.decode()
    assert viewer.get(reverse("admin:orders_ordersummary_change", args=[ORDER]))["Location"] == order
    stock = reverse("dashboard:stock-item", args=[HEART])
    assert viewer.get(reverse("admin:inventory_stocklevel_change", args=[HEART]))["Location"] == stock


@pytest.mark.parametrize("address", LISTS)
def test_lists_are_for_those_who_may_look(address: str) -> None:
    assert Client().get(address).status_code == 302
    User.objects.create_user("stranger", is_staff=True)
    stranger = Client()
    stranger.force_login(User.objects.get())
    assert stranger.get(address).status_code == 403
    for role in ("viewer", "operator", "administrator"):
        found(somebody(role), address)


@pytest.mark.parametrize("term", ["", "536365", HEART, str(ORDER), "ann@example.org"])
def test_no_search_goes_through_all_orders(term: str) -> None:
    """The planner is told not to walk tables: what it walks nevertheless has no index that serves."""
    admin = somebody("administrator")
    with CaptureQueriesContext(connection) as asked:
        found(admin, ORDERS, q=term)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in asked.captured_queries:
            if query["sql"].startswith("SELECT") and OrderSummary._meta.db_table in query["sql"]:
                cursor.execute("EXPLAIN " + query["sql"])
                plan = "\n".join(line for (line,) in cursor.fetchall())
                assert "Seq Scan" not in plan, plan
