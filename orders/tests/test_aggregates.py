from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eventing.contact import Contact
from eventing.domain import Rejected
from eventing.money import Money
from orders.aggregates import Order, Status
from orders.commands import ReturnLine
from orders.events import (
    BuyerForgotten,
    Fulfilment,
    ItemsReturned,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderPlaced,
    OrderShipped,
    OrderStatusChanged,
    ReturnedLine,
)
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PLACED, pounds

CONFIRMED = OrderConfirmed(order_id=ORDER)
CANCELLED = OrderCancelled(order_id=ORDER, reason="Changed my mind")
SHIPPED = OrderShipped(order_id=ORDER)
DELIVERED = OrderDelivered(order_id=ORDER)

confirm: Callable[[Order], None] = Order.confirm
ship: Callable[[Order], None] = Order.mark_shipped
deliver: Callable[[Order], None] = Order.mark_delivered


def cancel(order: Order) -> None:
    order.cancel("Changed my mind")


def order_after(*events: Any) -> Order:
    order = Order(ORDER)
    for event in events:
        order.apply(event)
    return order


def place(
    *lines: Line, order: Order | None = None, customer: UUID | None = CUSTOMER, reference: str = "536365"
) -> Order:
    order = order or Order(ORDER)
    order.place(customer, lines, reference, "tok_visa")
    return order


def a_line(**changes: Any) -> Line:
    return msgspec.structs.replace(LINES[0], **changes)


def test_a_placed_order_keeps_its_lines_as_they_came_and_knows_their_total() -> None:
    assert place(*LINES).recorded == [PLACED]


def test_a_guest_has_no_customer_number() -> None:
    (placed,) = place(*LINES, customer=None).recorded
    assert isinstance(placed, OrderPlaced)
    assert placed.customer_id is None


def test_placed_again_with_the_same_contents_it_is_still_one_order() -> None:
    order = place(*LINES)
    place(*LINES, order=order)
    assert order.recorded == [PLACED]


def test_placed_again_with_other_contents_it_is_refused() -> None:
    order = place(*LINES)
    with pytest.raises(Rejected, match="already been placed with other contents"):
        place(*LINES[:1], order=order)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((), "An order has 1 to 5,000 lines; this one has 0"),
        ((LINES[0],) * 5_001, "this one has 5,001"),
        ((LINES[0], a_line(quantity=0)), "Line 2: a quantity is 1 to 1,000,000, not 0"),
        ((a_line(quantity=1_000_001),), "not 1,000,001"),
        ((a_line(unit_price=pounds("-0.01")),), "Line 1: a unit price is 0 or more, not -0.01 GBP"),
        (
            (LINES[0], a_line(unit_price=Money(minor=255, currency="EUR"))),
            "Line 2: an order is in one currency, and line 1 is in GBP, not 'EUR'",
        ),
        ((a_line(unit_price=Money(minor=255, currency="ZZZ")),), "Line 1: 'ZZZ' is not a currency"),
        ((a_line(unit_price=Money(minor=2**60, currency="GBP"), quantity=8),), "The total is"),
        ((a_line(sku=" "),), "Line 1: the SKU is missing"),
        ((a_line(sku="x" * 65),), "Line 1: the SKU has 65 characters; 64 is the most"),
        ((a_line(sku="85123A\x00"),), "can't be shown"),
        ((a_line(description="half a \ud83d"),), "Line 1: the description has characters that can't be shown"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_the_place_and_the_reason(
    lines: tuple[Line, ...], complaint: str
) -> None:
    with pytest.raises(Rejected, match=complaint):
        place(*lines)


def test_the_largest_order_is_accepted() -> None:
    price = Money(minor=(2**63 - 1) // (5_000 * 1_000_000), currency="GBP")
    order = place(*[Line(sku=HEART, description="", quantity=1_000_000, unit_price=price)] * 5_000)
    assert len(order.recorded) == 1


def test_an_order_may_cost_nothing() -> None:
    (placed,) = place(a_line(unit_price=pounds("0"))).recorded
    assert isinstance(placed, OrderPlaced)
    assert placed.total == pounds("0")


@pytest.mark.parametrize(
    ("before", "ask", "event"),
    [
        ([PLACED], confirm, CONFIRMED),
        ([PLACED], cancel, CANCELLED),
        ([PLACED, CONFIRMED], ship, SHIPPED),
        ([PLACED, CONFIRMED, SHIPPED], deliver, DELIVERED),
    ],
)
def test_an_order_takes_one_step_after_the_other(
    before: list[Any], ask: Callable[[Order], None], event: object
) -> None:
    order = order_after(*before)
    ask(order)
    assert order.recorded == [event]


@pytest.mark.parametrize(
    ("before", "ask"),
    [
        ([PLACED, CONFIRMED], confirm),
        ([PLACED, CONFIRMED, SHIPPED], confirm),
        ([PLACED, CANCELLED], cancel),
        ([PLACED, CONFIRMED, SHIPPED], ship),
        ([PLACED, CONFIRMED, SHIPPED, DELIVERED], ship),
        ([PLACED, CONFIRMED, SHIPPED, DELIVERED], deliver),
    ],
)
def test_asked_twice_it_answers_once(before: list[Any], ask: Callable[[Order], None]) -> None:
    order = order_after(*before)
    ask(order)
    assert order.recorded == []


@pytest.mark.parametrize(
    ("before", "ask", "complaint"),
    [
        ([], confirm, "An order that is not placed yet can't be confirmed"),
        ([], cancel, "An order that is not placed yet can't be cancelled"),
        ([PLACED, CANCELLED], confirm, "An order that is cancelled can't be confirmed"),
        ([PLACED, CONFIRMED], cancel, "An order that is confirmed can't be cancelled"),
        ([PLACED, CONFIRMED, SHIPPED], cancel, "An order that is shipped can't be cancelled"),
        ([PLACED], ship, "An order that is placed can't be shipped"),
        ([PLACED, CANCELLED], ship, "An order that is cancelled can't be shipped"),
        ([PLACED, CONFIRMED], deliver, "An order that is confirmed can't be delivered"),
    ],
)
def test_a_step_out_of_order_is_refused(before: list[Any], ask: Callable[[Order], None], complaint: str) -> None:
    with pytest.raises(Rejected, match=complaint):
        ask(order_after(*before))


def test_a_cancellation_has_a_reason() -> None:
    with pytest.raises(Rejected, match="The reason is missing"):
        order_after(PLACED).cancel("")


@pytest.mark.parametrize("reason", ["", "Declined.\nRing your bank.", "x" * 1_001])
def test_cancelled_again_an_order_is_just_cancelled_whatever_the_reason(reason: str) -> None:
    order = order_after(PLACED, CANCELLED)
    order.cancel(reason)
    assert order.recorded == []


ADA = Contact(name="Ada Lovelace", email="ada@example.com", country="GB")


def test_an_order_knows_its_buyer_until_the_buyer_is_forgotten() -> None:
    order = Order(ORDER)
    order.place(CUSTOMER, LINES, "536365", "tok_visa", ADA)
    assert order.placed is not None
    assert order.placed.contact == ADA
    order.forget_buyer()
    order.forget_buyer()
    assert [type(event) for event in order.recorded] == [OrderPlaced, OrderStatusChanged, BuyerForgotten]
    assert order.placed == PLACED
    assert order.status is Status.PLACED


def test_each_change_of_status_is_notified_by_id_and_version_to_a_buyer_who_can_be_told() -> None:
    order = Order(ORDER)
    order.place(CUSTOMER, LINES, "536365", "tok_visa", ADA)
    order.confirm()
    order.confirm()
    order.mark_shipped()
    order.mark_delivered()
    told = [event for event in order.recorded if isinstance(event, OrderStatusChanged)]
    assert told == [OrderStatusChanged(order_id=ORDER, version=version) for version in (1, 3, 5, 7)]


def test_who_left_no_address_or_was_forgotten_is_not_told() -> None:
    order = Order(ORDER)
    order.place(CUSTOMER, LINES, "", "tok_visa", Contact(name="Ada Lovelace"))
    order.confirm()
    assert [type(event) for event in order.recorded] == [OrderPlaced, OrderConfirmed]
    forgotten = Order(ORDER)
    forgotten.place(CUSTOMER, LINES, "", "tok_visa", ADA)
    forgotten.forget_buyer()
    forgotten.cancel("Changed my mind")
    assert type(forgotten.recorded[-1]) is OrderCancelled


def test_an_order_placed_again_is_fulfilled_as_it_was_to_be_first() -> None:
    order = Order(ORDER)
    for fulfilment in Fulfilment:
        order.place(CUSTOMER, LINES, "536365", "tok_visa", None, fulfilment)
    assert order.recorded == [PLACED]


def test_an_order_that_was_never_placed_has_no_buyer_to_forget() -> None:
    order = Order(ORDER)
    order.forget_buyer()
    assert not order.recorded


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": " "}, "The name is missing"),
        ({"name": "x" * 256}, "The name has 256 characters"),
        ({"email": "ada"}, "'ada' is not an e-mail address"),
        ({"phone": "1" * 33}, "The phone number has 33"),
        ({"street": "a\x00"}, "The street has characters that can't be shown"),
        ({"postcode": "1" * 17}, "The postcode has 17"),
        ({"city": "x" * 256}, "The city has 256"),
        ({"country": "gb"}, "'gb' is not a country's code"),
    ],
)
def test_a_contact_that_cant_be_one_is_refused(changes: dict[str, str], complaint: str) -> None:
    order = Order(ORDER)
    with pytest.raises(Rejected, match=complaint):
        order.place(CUSTOMER, LINES, "", "tok_visa", msgspec.structs.replace(ADA, **changes))
    assert not order.recorded


RETURN = UUID("0197a000-0000-7000-8000-0000000000aa")
OTHER_RETURN = UUID("0197a000-0000-7000-8000-0000000000bb")


def take_back(order: Order, *lines: tuple[int, int], return_id: UUID = RETURN, reason: str = "Too many") -> None:
    order.return_items(return_id, [ReturnLine(number=number, quantity=quantity) for number, quantity in lines], reason)


@pytest.mark.parametrize("before", [(PLACED, CONFIRMED, SHIPPED), (PLACED, CONFIRMED, SHIPPED, DELIVERED)])
def test_goods_of_a_shipped_order_come_back_and_what_was_paid_for_them_is_refunded(before: tuple[Any, ...]) -> None:
    order = order_after(*before)
    take_back(order, (3, 4), (2, 1))
    assert order.recorded == [
        ItemsReturned(
            order_id=ORDER,
            return_id=RETURN,
            lines=(
                ReturnedLine(number=2, sku=LANTERN, quantity=1, unit_price=pounds("3.39")),
                ReturnedLine(number=3, sku=HEART, quantity=4, unit_price=pounds("2.55")),
            ),
            refund=pounds("13.59"),
            reason="Too many",
        )
    ]


def test_the_same_return_is_recorded_once_and_another_of_its_name_refused() -> None:
    order = order_after(PLACED, CONFIRMED, SHIPPED)
    take_back(order, (1, 6), (2, 2))
    take_back(order, (2, 2), (1, 6))
    assert len(order.recorded) == 1
    with pytest.raises(Rejected, match="has other contents already"):
        take_back(order, (1, 5))
    with pytest.raises(Rejected, match="has other contents already"):
        take_back(order, (1, 6), (2, 2), reason="Broken")


def test_no_more_comes_back_than_was_ordered() -> None:
    order = order_after(PLACED, CONFIRMED, SHIPPED)
    take_back(order, (1, 4))
    with pytest.raises(Rejected, match=f"Line 1 has 6 units of {HEART}, of which 4 have come back: 3 more can't"):
        take_back(order, (1, 3), return_id=OTHER_RETURN)
    take_back(order, (1, 2), (2, 2), (3, 6), return_id=OTHER_RETURN)
    refunds = [event.refund for event in order.recorded if isinstance(event, ItemsReturned)]
    assert Money.sum(refunds) == PLACED.total


@pytest.mark.parametrize(
    ("before", "state"),
    [
        ((), "not placed yet"),
        ((PLACED,), "placed"),
        ((PLACED, CONFIRMED), "confirmed"),
        ((PLACED, CANCELLED), "cancelled"),
    ],
)
def test_nothing_comes_back_that_was_not_shipped(before: tuple[Any, ...], state: str) -> None:
    with pytest.raises(Rejected, match=f"Nothing can come back of an order that is {state}, only of one that is ship"):
        take_back(order_after(*before), (1, 1))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((), "A return has at least one line"),
        (((0, 1),), "The order has no line 0: its lines are numbered from 1 to 3"),
        (((4, 1),), "The order has no line 4"),
        (((1, 0),), "Line 1: a quantity is 1 or more, not 0"),
        (((1, -1),), "not -1"),
        (((1, 1), (1, 1)), "Line 1 is given twice"),
        (((1, 7),), "of which 0 have come back: 7 more can't"),
    ],
)
def test_a_return_that_makes_no_sense_is_refused_with_the_place_and_the_reason(
    lines: tuple[tuple[int, int], ...], complaint: str
) -> None:
    with pytest.raises(Rejected, match=complaint):
        take_back(order_after(PLACED, CONFIRMED, SHIPPED), *lines)


def test_a_return_has_a_reason() -> None:
    with pytest.raises(Rejected, match="The reason is missing"):
        take_back(order_after(PLACED, CONFIRMED, SHIPPED), (1, 1), reason=" ")
