"""Goods that come back, through the log, on PostgreSQL: what becomes of the stock and of the money."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from pytest_django import Settings

from eventing.checkpoints import pause, resume
from eventing.domain import Rejected
from eventing.handlers import dispatch
from eventing.models import SagaInstance
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from inventory.models import StockLevel
from orders.commands import PlaceOrder, ReturnItems, ReturnLine
from orders.events import Fulfilment, Line
from orders.models import OrderSummary, Return, ReturnedLine
from payments.models import GatewayEntry, PaymentSummary, Refund
from shipping.commands import DeliverShipment, DispatchShipment
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, TOTAL, pounds

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[each.value for each in Fulfilment])
def manner(request: pytest.FixtureRequest, settings: Settings) -> str:
    settings.FULFILMENT = request.param
    return str(request.param)


@pytest.fixture(autouse=True)
def stock() -> None:
    for sku, price, quantity in ((HEART, "2.55", 20), (LANTERN, "3.39", 5)):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=quantity))


def deliver(lines: tuple[Line, ...] = LINES) -> None:
    """An order that is paid for and has arrived."""
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=lines, reference="536365"))
    settle()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()


def named(name: str) -> UUID:
    return uuid5(ORDER, name)


def take_back(*lines: tuple[int, int], name: str = "first") -> None:
    dispatch(
        ReturnItems(
            order_id=ORDER,
            return_id=named(name),
            lines=tuple(ReturnLine(number=number, quantity=quantity) for number, quantity in lines),
            reason="Too many",
        )
    )
    settle()


def on_hand() -> dict[str, int]:
    return dict(StockLevel.objects.values_list("sku", "on_hand"))


def given_back() -> list[int]:
    return list(
        GatewayEntry.objects.filter(kind="refund").order_by("created_at").values_list("amount_minor", flat=True)
    )


def test_part_of_an_order_comes_back(manner: str) -> None:
    deliver()
    states = dict(SagaInstance.objects.values_list("saga", "state"))

    take_back((1, 2), (2, 1), (3, 6))

    assert on_hand() == {HEART: 16, LANTERN: 4}
    assert given_back() == [2379]
    order = OrderSummary.objects.get()
    assert (order.status, order.returned_units, order.refunded_minor) == ("delivered", 9, 2379)
    returned = Return.objects.get()
    assert (returned.return_id, returned.line_count, returned.units, returned.refund_minor, returned.reason) == (
        named("first"),
        3,
        9,
        2379,
        "Too many",
    )
    assert list(ReturnedLine.objects.values_list("number", "sku", "quantity")) == [
        (1, HEART, 2),
        (2, LANTERN, 1),
        (3, HEART, 6),
    ]
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.refunding_minor, payment.refunded_minor) == ("completed", 0, 2379)
    refund = Refund.objects.get()
    assert (refund.payment_id, refund.refund_id, refund.amount_minor) == (PAYMENT, named("first"), 2379)
    assert refund.reference == GatewayEntry.objects.get(kind="refund").reference
    assert dict(SagaInstance.objects.values_list("saga", "state")) == states


def test_an_order_comes_back_in_parts_until_nothing_is_left_of_the_payment(manner: str) -> None:
    deliver()
    take_back((1, 6), name="first")
    take_back((2, 2), name="second")
    take_back((3, 6), name="third")

    assert on_hand() == {HEART: 20, LANTERN: 5}
    assert given_back() == [1530, 678, 1530]
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.refunded_minor) == ("refunded", TOTAL.minor)
    assert Refund.objects.count() == 3
    with pytest.raises(Rejected, match="of which 6 have come back"):
        take_back((1, 1), name="fourth")


def test_a_return_that_is_registered_twice_is_one_return() -> None:
    deliver()
    take_back((1, 2))
    take_back((1, 2))

    assert on_hand() == {HEART: 10, LANTERN: 3}
    assert given_back() == [510]
    assert Return.objects.count() == 1


def test_returns_of_two_orders_may_have_the_same_name() -> None:
    deliver()
    take_back((1, 2))
    other = uuid5(ORDER, "another")
    dispatch(PlaceOrder(order_id=other, customer_id=None, lines=LINES[:1]))
    settle()
    dispatch(DispatchShipment(shipment_id=uuid5(other, "shipment")))
    settle()
    line = ReturnLine(number=1, quantity=2)
    dispatch(ReturnItems(order_id=other, return_id=named("first"), lines=(line,), reason="Too many"))
    settle()

    assert on_hand()[HEART] == 20 - 12 + 2 - 6 + 2
    assert given_back() == [510, 510]


def test_what_cost_nothing_comes_back_without_the_gateway() -> None:
    gift = Line(sku=LANTERN, description="", quantity=2, unit_price=pounds("0"))
    deliver((LINES[0], gift))
    take_back((2, 2))

    assert on_hand()[LANTERN] == 5
    assert given_back() == []
    assert OrderSummary.objects.get().refunded_minor == 0
    assert PaymentSummary.objects.get().status == "completed"


def test_until_the_gateway_has_given_it_back_money_is_being_refunded() -> None:
    deliver()
    subscription = subscription_named("payments.refund")
    pause(subscription)
    take_back((1, 2))
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.refunding_minor, payment.refunded_minor) == ("completed", 510, 0)

    take_back((1, 4), (2, 2), (3, 6), name="second")
    payment.refresh_from_db()
    assert (payment.status, payment.refunding_minor, payment.refunded_minor) == ("refunding", TOTAL.minor, 0)

    resume(subscription)
    settle()
    payment.refresh_from_db()
    assert (payment.status, payment.refunding_minor, payment.refunded_minor) == ("refunded", 0, TOTAL.minor)
    assert given_back() == [510, 3228]


def test_goods_that_have_not_left_the_house_do_not_come_back() -> None:
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES))
    settle()
    with pytest.raises(Rejected, match="Nothing can come back of an order that is confirmed"):
        take_back((1, 1))
    settle()
    assert on_hand() == {HEART: 20, LANTERN: 5}
    assert given_back() == []
