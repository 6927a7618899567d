"""What tells of a person is on no page of a single row, but for those who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.urls import reverse

from eventing.admin import ReadOnlyAdmin
from eventing.contact import Contact
from eventing.handlers import dispatch
from eventing.models import Delivery, LogEntry, SagaInstance
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, pounds
from tests.clients import with_role

pytestmark = pytest.mark.django_db

PERSON = Contact(
    name="Zaphodina Quux",
    email="zq77@quux.example",
    phone="+44 1632 960077",
    street="17 Xylophone Mews",
    postcode="QX7 7ZZ",
    city="Yaxley",
    country="GB",
)
TELLS = [PERSON.name, PERSON.email, "960077", PERSON.street, PERSON.postcode, PERSON.city]


@pytest.fixture(autouse=True)
def an_order_with_a_letter_that_tells_of_its_buyer() -> None:
    for sku in (HEART, LANTERN):
        dispatch(ListStockItem(sku=sku, description="A thing", list_price=pounds("1")))
        dispatch(ReceiveStock(sku=sku, quantity=50))
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="536365", contact=PERSON))
    settle()
    placed = LogEntry.objects.get(type="orders.order_placed")
    Delivery.objects.update_or_create(
        subscription="orders.OrderSummaries",
        position=placed.position,
        defaults={
            "event": placed.event,
            "partition": 0,
            "sequence": str(ORDER),
            "state": Delivery.State.DEAD,
            "attempts": 3,
            "error": f"ValueError: {TELLS}",
            "traceback": f"Traceback: {TELLS}",
        },
    )


def rows() -> list[tuple[Any, str, str]]:
    """Each kind of row that there is, with the addresses of its list and of one of its rows."""
    found = []
    for model, pages in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        if isinstance(pages, ReadOnlyAdmin):
            found += [
                (row, reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[row.pk]))
                for row in model._default_manager.all()
            ]
    return found


@pytest.mark.parametrize("role", ["viewer", "operator"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST", "SEARCH"])
def test_no_row_tells_of_a_person(role: str, method: str) -> None:
    client, seen = with_role(role), set()
    for row, of_all, of_one in rows():
        for address in (of_all, of_one):
            answer = client.generic(method, address, follow=True)
            assert answer.status_code in (200, 302, 403, 405), address
            said = answer.content.decode()
            assert not [each for each in TELLS if each in said], (row, address)
        seen.add(type(row).__name__)
    assert {"StoredEvent", "LogEntry", "Delivery", "SagaInstance", "OrderSummary", "Consignment"} <= seen


def test_rows_of_the_log_lead_to_pages_that_know_who_may_see_what() -> None:
    viewer = with_role("viewer")
    letter, saga = Delivery.objects.latest("id"), SagaInstance.objects.latest("id")
    assert viewer.get(reverse("admin:eventing_delivery_change", args=[letter.pk]))["Location"] == reverse(
        "operations:letter", args=[letter.pk]
    )
    assert viewer.get(reverse("admin:eventing_sagainstance_change", args=[saga.pk]))["Location"] == reverse(
        "operations:saga", args=[saga.saga, saga.key]
    )
    for each, page in (("delivery", f"letters/{letter.pk}"), ("sagainstance", f"sagas/{saga.saga}/{saga.key}")):
        assert f'href="/admin/operations/{page}' in viewer.get(f"/admin/eventing/{each}/").content.decode()


def test_a_row_without_a_page_of_its_own_keeps_its_persons_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadOnlyAdmin, "page_of", lambda *_: "")
    test_no_row_tells_of_a_person("viewer", "GET")
