from __future__ import annotations

import pytest
from django.core import mail

from eventing.contact import Contact
from eventing.forgetting import forget
from eventing.handlers import dispatch
from eventing.models import Delivery
from eventing.testing import settle
from orders.commands import CancelOrder, ConfirmOrder, PlaceOrder
from orders.effects import NotYetVisible, tell_buyer
from orders.events import OrderStatusChanged
from tests.builders import CUSTOMER, LINES, ORDER

pytestmark = pytest.mark.django_db

ADA = Contact(name="Ada Lovelace", email="ada@example.com")


def place(contact: Contact | None = ADA) -> None:
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="PO-17", contact=contact))


def test_a_buyer_is_told_what_has_become_of_the_order() -> None:
    place()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    (told,) = mail.outbox  # that it was placed was overtaken by the cancellation
    assert told.to == ["ada@example.com"]
    assert told.subject == "Your order PO-17: Cancelled"
    assert told.body.startswith("Dear Ada Lovelace,\n\nYour order is cancelled.")
    event = Delivery.objects.filter(subscription="orders.tell_buyer").latest("position").event_id
    assert told.extra_headers["Message-ID"] == f"<{event}@waybill>"


def test_who_left_no_address_gets_no_mail() -> None:
    place(Contact(name="Ada Lovelace"))
    settle()
    assert not mail.outbox
    assert not Delivery.objects.filter(subscription="orders.tell_buyer").exists()


def test_who_was_forgotten_meanwhile_gets_no_mail() -> None:
    place()
    forget(CUSTOMER, reason="Asked for it", by="a test")
    settle()
    assert not mail.outbox


def test_a_notification_waits_for_the_read_model() -> None:
    place()
    dispatch(ConfirmOrder(order_id=ORDER))
    with pytest.raises(NotYetVisible, match="doesn't show version 3 of order"):
        tell_buyer(OrderStatusChanged(order_id=ORDER, version=3), None)  # type: ignore[arg-type] # isn't looked at
