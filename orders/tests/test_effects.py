from __future__ import annotations

import pytest
from django.core import mail

from eventing import checkpoints
from eventing.contact import Contact
from eventing.forgetting import forget
from eventing.handlers import dispatch
from eventing.models import Delivery
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from orders.commands import CancelOrder, PlaceOrder
from orders.models import OrderSummary
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


def test_no_mail_waits_for_a_read_model_that_is_paused() -> None:
    checkpoints.pause(subscription_named("orders.OrderSummaries"))
    place()
    settle()
    assert mail.outbox
    assert not OrderSummary.objects.exists()
