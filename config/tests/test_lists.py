"""Lists of orders, payments, shipments and articles, and of the log: what is searched for is found, by an index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from config.roles import ROLES
from eventing.admin import ReadOnlyAdmin
from eventing.contact import Contact
from eventing.handlers import dispatch
from eventing.models import Delivery, SagaInstance, StoredEvent
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from orders.models import OrderSummary
from payments.models import PaymentSummary
from shipping.models import ShipmentSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, pounds
from tests.clients import with_role

pytestmark = pytest.mark.django_db

ORDERS = reverse("admin:orders_ordersummary_changelist")
LISTS = [
    ORDERS,
    reverse("admin:payments_paymentsummary_changelist"),
    reverse("admin:shipping_shipmentsummary_changelist"),
    reverse("admin:inventory_stocklevel_changelist"),
]
EVENTS = reverse("admin:eventing_storedevent_changelist")
LETTERS = reverse("admin:eventing_delivery_changelist")
SAGAS = reverse("admin:eventing_sagainstance_changelist")
ACTS = reverse("admin:admin_logentry_changelist")
ALL = [
    reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for model, pages in admin.site._registry.items()
    if isinstance(pages, ReadOnlyAdmin)
]
A_DAY = datetime(2010, 12, 1, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.fixture(autouse=True)
def orders() -> None:
    for sku in (HEART, LANTERN):
        dispatch(ListStockItem(sku=sku, description="A thing", list_price=pounds("1")))
        dispatch(ReceiveStock(sku=sku, quantity=50))
    ann = Contact(name="Ann Archer", email="ann@example.org")
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="536365", contact=ann))
    dispatch(PlaceOrder(order_id=uuid4(), customer_id=uuid4(), lines=LINES[1:2], reference="Another"))
    settle()


def found(client: Client, address: str, **asked: str) -> list[Any]:
    answer = client.get(address, asked)
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


def test_an_order_is_found_by_whatever_it_is_known_by() -> None:
    viewer = with_role("viewer")
    tracking = ShipmentSummary.objects.get(order_id=ORDER).tracking_number
    for term in (str(ORDER), str(CUSTOMER), "536365", HEART, tracking, f" {ORDER} "):
        assert found(viewer, ORDERS, q=term) == [ORDER], term
    assert len(found(viewer, ORDERS, q=LANTERN)) == 2
    assert found(viewer, ORDERS, q="nothing like it") == []
    assert len(found(viewer, ORDERS)) == 2


def test_an_order_is_found_by_email_only_by_those_who_may_see_it() -> None:
    assert found(with_role("viewer"), ORDERS, q="ann@example.org") == []
    assert found(with_role("operator"), ORDERS, q="ann@example.org") == []
    assert found(with_role("administrator"), ORDERS, q="Ann@Example.org") == [ORDER]


def test_orders_are_filtered_by_status() -> None:
    viewer = with_role("viewer")
    assert len(found(viewer, ORDERS, status__exact="confirmed")) == 2
    assert found(viewer, ORDERS, status__exact="cancelled") == []


def test_orders_payments_and_shipments_are_filtered_by_days_of_ones_choice() -> None:
    OrderSummary.objects.filter(pk=ORDER).update(placed_at=A_DAY)
    PaymentSummary.objects.filter(pk=PAYMENT).update(requested_at=A_DAY)
    ShipmentSummary.objects.filter(pk=SHIPMENT_ID).update(requested_at=A_DAY)
    viewer = with_role("viewer")
    for address, column, row in zip(
        LISTS, ("placed_at", "requested_at", "requested_at"), (ORDER, PAYMENT, SHIPMENT_ID), strict=False
    ):
        first, last = f"{column}_from", f"{column}_to"
        assert found(viewer, address, **{first: "2010-12-01", last: "2010-12-01"}) == [row]
        assert found(viewer, address, **{last: "2010-12-01"}) == [row]
        assert found(viewer, address, **{last: "2010-11-30"}) == []
        assert found(viewer, address, **{first: "2010-12-02"})[:1] != [row]
        assert len(found(viewer, address, **{first: "0001-01-01", last: "9999-12-31"})) == 2


@pytest.mark.parametrize("day", ["yesterday", "2010-02-30", "0000-00-00", "9" * 5000, "12/2010"])
def test_what_is_no_day_filters_nothing(day: str) -> None:
    viewer = with_role("viewer")
    assert len(found(viewer, ORDERS, placed_at_from=day, placed_at_to=day)) == 2
    assert "Enter a valid date." in viewer.get(ORDERS, {"placed_at_to": day}).content.decode()


def test_filters_keep_what_is_searched_for_and_begin_at_the_first_page() -> None:
    page = with_role("viewer").get(ORDERS, {"q": HEART, "p": "1"}).content.decode()
    form = page[page.index('id="filter-form"') :]
    assert f'name="q" value="{HEART}"' in form
    assert 'name="p"' not in form


@pytest.mark.parametrize("role", ROLES)
def test_a_list_is_filtered_by_whatever_it_offers(role: str) -> None:
    client = with_role(role)
    offered = 0
    for address in ALL:
        if (answer := client.get(address)).status_code == 403:
            continue
        changes = answer.context["cl"]
        for choice in (choice for spec in changes.filter_specs for choice in spec.choices(changes)):
            assert client.get(address + choice["query_string"]).status_code == 200, (address, choice)
            offered += 1
    assert offered > 30


@pytest.mark.parametrize("role", ROLES)
def test_rows_are_looked_up_by_the_filters_of_their_list_alone(role: str) -> None:
    client = with_role(role)
    for address, lookup, value in (
        *((ORDERS, f"contact_{name}__startswith", "a") for name in Contact.__struct_fields__),
        (ORDERS, "contact_email", "ann@example.org"),
        (ORDERS, "placed_at__gte", "2010-12-01"),
        (EVENTS, "data__contact__name__isnull", "False"),
        (EVENTS, "category__startswith", "o"),
        (LETTERS, "error__contains", "ann"),
        (LETTERS, "event__data__icontains", "ann"),
        (SAGAS, "memory__icontains", "ann"),
        (ACTS, "user__password__startswith", "pbkdf2"),
        (ORDERS, "nothing", "1"),
    ):
        answer = client.get(address, {lookup: value})
        # Django itself refuses those that lead to other tables.
        assert answer.status_code == 400 or answer["Location"] == f"{address}?e=1", lookup


def test_what_no_database_can_be_asked_for_is_told_like_any_other_wrong_look_up() -> None:
    viewer = with_role("viewer")
    for address, name in (
        (ORDERS, "status__exact"),
        (EVENTS, "category"),
        (LETTERS, "subscription"),
        (SAGAS, "saga"),
        (SAGAS, "state"),
        (ORDERS, "placed_at_from"),
        (ORDERS, "q"),
        (ORDERS, "\0"),
    ):
        assert viewer.get(address, {name: "\0"})["Location"] == f"{address}?e=1", name
    for address in ALL:  # the admin writes a zero byte in a key as _00
        assert viewer.get(address + "_00/change/").status_code == 302, address


def test_payments_and_shipments_are_found_too() -> None:
    viewer = with_role("viewer")
    payment, shipment = PaymentSummary.objects.get(pk=PAYMENT), ShipmentSummary.objects.get(pk=SHIPMENT_ID)
    for term in (str(PAYMENT), str(ORDER), payment.charge_reference):
        assert found(viewer, LISTS[1], q=term) == [PAYMENT]
    for term in (str(SHIPMENT_ID), str(ORDER), shipment.tracking_number):
        assert found(viewer, LISTS[2], q=term) == [SHIPMENT_ID]
    assert found(viewer, LISTS[3], q=HEART) == [HEART]
    assert found(viewer, LISTS[3], q="thing") == [LANTERN, HEART]


def test_rows_lead_to_their_pages() -> None:
    viewer = with_role("viewer")
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
        found(with_role(role), address)


@pytest.mark.parametrize("term", ["", "536365", HEART, str(ORDER), "ann@example.org"])
def test_no_search_goes_through_all_orders(term: str) -> None:
    """The planner is told not to walk tables: what it walks nevertheless has no index that serves."""
    admin = with_role("administrator")
    with CaptureQueriesContext(connection) as asked:
        found(admin, ORDERS, q=term)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in asked.captured_queries:
            if query["sql"].startswith("SELECT") and OrderSummary._meta.db_table in query["sql"]:
                cursor.execute("EXPLAIN " + query["sql"])
                plan = "\n".join(line for (line,) in cursor.fetchall())
                assert "Seq Scan" not in plan, plan


def test_the_log_is_filtered_by_what_the_program_knows_of() -> None:
    viewer = with_role("viewer")
    assert len(found(viewer, EVENTS, category="order")) == StoredEvent.objects.filter(category="order").count() > 0
    assert found(viewer, SAGAS, saga="orders.OrderFulfilment", state="FAILED") == []
    assert len(found(viewer, SAGAS, saga="orders.OrderFulfilment", state="COMPLETED")) == 2
    assert len(found(viewer, LETTERS, subscription="orders.ConfirmationMails")) <= Delivery.objects.count()
    saga = SagaInstance.objects.get(saga="orders.OrderFulfilment", key=ORDER)
    assert found(viewer, SAGAS, q=str(ORDER), saga="orders.OrderFulfilment") == [saga.pk]
    event = StoredEvent.objects.filter(category="order", stream_id=str(ORDER)).latest("version")
    assert event.pk in found(viewer, EVENTS, q=str(ORDER))
    assert found(viewer, EVENTS, q=str(event.pk)) == [event.pk]


@pytest.mark.parametrize("address", [EVENTS, LETTERS, SAGAS])
@pytest.mark.parametrize("term", ["", str(ORDER)])
def test_no_list_of_the_log_goes_through_all_of_it(address: str, term: str) -> None:
    viewer = with_role("viewer")
    with CaptureQueriesContext(connection) as asked:
        rows = viewer.get(address, {"q": term}).context["cl"].queryset
    assert not [query["sql"] for query in asked.captured_queries if "SELECT DISTINCT" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = rows[:100].explain()
    assert "Seq Scan" not in plan, plan
    assert term or "Sort" not in plan, plan
