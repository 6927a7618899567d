from __future__ import annotations

from typing import Any

import msgspec

from eventing.contact import Contact
from eventing.domain import Command, CommandRejected, Resumed, TimedOut
from orders.events import BuyerForgotten
from shipping.commands import CancelShipment, CreateShipment
from shipping.sagas import OrderShipment
from tests.builders import (
    CANCELLED,
    CUSTOMER,
    ORDER,
    PLACED,
    RESERVED,
    SHIPMENT,
    SHIPMENT_CANCELLED,
    SHIPMENT_ID,
)

CANCEL = CancelShipment(shipment_id=SHIPMENT_ID)


def saga_after(*events: Any) -> tuple[OrderShipment, list[Command]]:
    saga, commands = OrderShipment(id=ORDER), list[Command]()
    for event in events:
        commands = list(saga.react(event))
    return saga, commands


def story(*events: Any) -> tuple[list[Command], str]:
    """What the last of these events makes the saga ask for, and its state then."""
    saga, commands = saga_after(*events)
    return commands, saga.state


def test_a_parcel_is_booked_once_its_stock_is_held() -> None:
    asked = CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER, person_id=CUSTOMER)
    assert story(PLACED) == ([], "INVENTORY_PENDING")
    assert story(PLACED, RESERVED) == ([asked], "SHIPPING_PENDING")
    assert story(PLACED, RESERVED, SHIPMENT) == ([], "COMPLETED")


def test_it_goes_to_the_buyer_and_the_saga_remembers_nobody_then() -> None:
    ada = Contact(name="Ada Lovelace")
    saga, (asked,) = saga_after(msgspec.structs.replace(PLACED, contact=ada), RESERVED)
    assert isinstance(asked, CreateShipment)
    assert asked.recipient == ada
    assert saga.recipient is None


def test_it_goes_to_nobody_who_was_forgotten_or_has_cancelled() -> None:
    placed = msgspec.structs.replace(PLACED, contact=Contact(name="Ada Lovelace"))
    assert saga_after(placed, BuyerForgotten(order_id=ORDER))[0].recipient is None
    assert saga_after(placed, CANCELLED)[0].recipient is None
    assert story(placed, CANCELLED, RESERVED) == ([], "COMPENSATED")


def test_a_parcel_is_cancelled_with_its_order() -> None:
    assert story(PLACED, RESERVED, CANCELLED) == ([CANCEL], "COMPENSATING")
    assert story(PLACED, RESERVED, SHIPMENT, CANCELLED) == ([CANCEL], "COMPENSATING")
    assert story(PLACED, RESERVED, CANCELLED, SHIPMENT, SHIPMENT_CANCELLED) == ([], "COMPENSATED")


def test_a_cancellation_that_is_refused_is_left_to_a_person() -> None:
    refused = CommandRejected(command=CANCEL, reason="No.")
    assert story(PLACED, RESERVED, CANCELLED, refused) == ([], "FAILED")


def test_a_person_can_have_it_ask_again_for_what_was_refused() -> None:
    refused = CommandRejected(command=CANCEL, reason="No.")
    assert story(PLACED, RESERVED, CANCELLED, refused, Resumed()) == ([CANCEL], "COMPENSATING")
    assert story(PLACED, RESERVED, CANCELLED, Resumed()) == ([], "COMPENSATING")


def test_it_has_a_deadline_and_one_more_for_cancelling() -> None:
    saga = OrderShipment(id=ORDER)
    for event in (PLACED, RESERVED, SHIPMENT):
        list(saga.react(event))
    assert list(saga.reminders) == ["deadline"]
    saga.reminders = {}
    list(saga.react(CANCELLED))
    assert list(saga.reminders) == ["deadline"]


def test_when_its_time_is_up_it_leaves_what_is_to_be_done_to_others() -> None:
    late = TimedOut(about="deadline")
    assert story(PLACED, late) == ([], "INVENTORY_PENDING")
    assert story(PLACED, RESERVED, SHIPMENT, CANCELLED, late) == ([], "COMPENSATING")
