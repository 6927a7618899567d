from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventing.contact import Contact
from eventing.domain import Rejected
from shipping.aggregates import Shipment
from shipping.events import (
    BookingDiscarded,
    RecipientForgotten,
    ShipmentCancelled,
    ShipmentCleared,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentRequested,
)
from tests.builders import CUSTOMER, ORDER, SHIPMENT, SHIPMENT_CANCELLED, SHIPMENT_ID

REQUESTED = ShipmentRequested(shipment_id=SHIPMENT_ID, order_id=ORDER)
CLEARED = ShipmentCleared(shipment_id=SHIPMENT_ID, order_id=ORDER)
DISPATCHED = ShipmentDispatched(shipment_id=SHIPMENT_ID, order_id=ORDER)
DELIVERED = ShipmentDelivered(shipment_id=SHIPMENT_ID, order_id=ORDER)
CANCELLED_EARLY = ShipmentCancelled(shipment_id=SHIPMENT_ID, order_id=ORDER, tracking_number="")
DISCARDED = BookingDiscarded(shipment_id=SHIPMENT_ID, order_id=ORDER, tracking_number="WB1")

clear: Callable[[Shipment], None] = Shipment.clear
dispatch: Callable[[Shipment], None] = Shipment.dispatch
deliver: Callable[[Shipment], None] = Shipment.deliver
cancel: Callable[[Shipment], None] = Shipment.cancel


def request(shipment: Shipment) -> None:
    shipment.request(ORDER)


def book(shipment: Shipment) -> None:
    shipment.record_booking("WB1")


def shipment_after(*events: Any) -> Shipment:
    shipment = Shipment(SHIPMENT_ID)
    for event in events:
        shipment.apply(event)
    return shipment


@pytest.mark.parametrize(
    ("before", "ask", "event"),
    [
        ([], request, REQUESTED),
        ([REQUESTED], book, SHIPMENT),
        ([REQUESTED, SHIPMENT], clear, CLEARED),
        ([REQUESTED, SHIPMENT, CLEARED], dispatch, DISPATCHED),
        ([REQUESTED, SHIPMENT, CLEARED, DISPATCHED], deliver, DELIVERED),
        ([REQUESTED], cancel, CANCELLED_EARLY),
        ([REQUESTED, SHIPMENT], cancel, SHIPMENT_CANCELLED),
        ([REQUESTED, CANCELLED_EARLY], book, DISCARDED),
    ],
)
def test_a_shipment_takes_a_step_once_however_often_it_is_asked(
    before: list[Any], ask: Callable[[Shipment], None], event: object
) -> None:
    shipment = shipment_after(*before)
    ask(shipment)
    ask(shipment)
    assert shipment.recorded == [event]


def test_a_booking_repeated_after_the_cancellation_is_known_already() -> None:
    shipment = shipment_after(REQUESTED, SHIPMENT, SHIPMENT_CANCELLED)
    book(shipment)
    assert shipment.recorded == []


@pytest.mark.parametrize(
    ("before", "ask", "complaint"),
    [
        ([], book, "was never requested"),
        ([], cancel, "that is not requested yet can't be cancelled"),
        ([], clear, "that is not requested yet can't be cleared"),
        ([REQUESTED], clear, "that is requested can't be cleared"),
        ([REQUESTED, CANCELLED_EARLY], clear, "that is cancelled can't be cleared"),
        ([REQUESTED], dispatch, "that is requested can't be dispatched"),
        ([REQUESTED, SHIPMENT], dispatch, "leaves the house once its order is confirmed"),
        ([REQUESTED, SHIPMENT, CLEARED], cancel, "order of this shipment is confirmed, so it can't be cancelled"),
        ([REQUESTED, CANCELLED_EARLY], dispatch, "that is cancelled can't be dispatched"),
        ([REQUESTED, SHIPMENT], deliver, "that is created can't be delivered"),
        ([REQUESTED, SHIPMENT, CLEARED, DISPATCHED], cancel, "that is dispatched can't be cancelled"),
        ([REQUESTED, SHIPMENT, CLEARED, DISPATCHED, DELIVERED], cancel, "that is delivered can't be cancelled"),
    ],
)
def test_a_step_out_of_order_is_refused(before: list[Any], ask: Callable[[Shipment], None], complaint: str) -> None:
    with pytest.raises(Rejected, match=complaint):
        ask(shipment_after(*before))


def test_one_shipment_is_not_for_two_orders_nor_booked_twice() -> None:
    with pytest.raises(Rejected, match="is for order"):
        shipment_after(REQUESTED).request(CUSTOMER)
    with pytest.raises(Rejected, match="is booked as WB1, not as WB2"):
        shipment_after(REQUESTED, SHIPMENT).record_booking("WB2")


def test_a_shipment_knows_its_recipient_until_the_recipient_is_forgotten() -> None:
    shipment = Shipment(SHIPMENT_ID)
    shipment.forget_recipient()
    shipment.request(ORDER, CUSTOMER, Contact(name="Ada Lovelace"))
    shipment.forget_recipient()
    shipment.forget_recipient()
    requested, forgotten = shipment.recorded
    assert isinstance(requested, ShipmentRequested)
    assert (requested.person_id, requested.recipient) == (CUSTOMER, Contact(name="Ada Lovelace"))
    assert forgotten == RecipientForgotten(shipment_id=SHIPMENT_ID, order_id=ORDER)


def test_a_recipient_that_cant_be_one_is_refused() -> None:
    with pytest.raises(Rejected, match="The name is missing"):
        Shipment(SHIPMENT_ID).request(ORDER, CUSTOMER, Contact(name=""))
