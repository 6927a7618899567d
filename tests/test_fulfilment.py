"""Orders from placed to their end, through the log, on PostgreSQL; and what the read models and ledgers say then.

Each story is told twice: conducted by one saga, and left to what each context hears from the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from eventing import context, letters, resuming, stuck
from eventing.checkpoints import pause, resume
from eventing.domain import Rejected
from eventing.handlers import dispatch
from eventing.letters import Filter
from eventing.models import Delivery, SagaInstance, Timer
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from inventory.models import StockLevel
from orders.aggregates import Order
from orders.commands import CancelOrder, PlaceOrder
from orders.events import Fulfilment
from orders.models import CustomerOrder, OrderLine, OrderSummary
from payments.commands import Declined
from payments.gateway import GatewayDown, OutcomeUnknown
from payments.gateway.simulated import SimulatedGateway
from payments.models import GatewayEntry, PaymentSummary
from shipping.commands import DeliverShipment, DispatchShipment
from shipping.models import Consignment, ShipmentSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, TOTAL, pounds

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True, params=[each.value for each in Fulfilment])
def manner(request: pytest.FixtureRequest, settings: Settings) -> str:
    settings.FULFILMENT = request.param
    return str(request.param)


@pytest.fixture(autouse=True)
def stock() -> None:
    for sku, price, quantity in ((HEART, "2.55", 20), (LANTERN, "3.39", 5)):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=quantity))


def place(method: str = "tok_visa") -> None:
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="536365", payment_method=method))


CONDUCTOR = ["orders.OrderFulfilment"]
CHOREOGRAPHY = ["inventory.OrderStock", "orders.OrderOutcome", "payments.OrderPayment", "shipping.OrderShipment"]


def saga_states(manner: str) -> set[str]:
    """What has become of those that see to the order, of which all of the chosen manner are there, and no other."""
    sagas = SagaInstance.objects.filter(key=ORDER).order_by("saga")
    assert [each.saga for each in sagas] == (CONDUCTOR if manner == "orchestrated" else CHOREOGRAPHY)
    return {each.state for each in sagas}


def reserved() -> dict[str, int]:
    return dict(StockLevel.objects.values_list("sku", "reserved"))


def ledger() -> list[tuple[str, str, int]]:
    return list(GatewayEntry.objects.order_by("kind").values_list("kind", "outcome", "amount_minor"))


def test_an_order_is_paid_reserved_booked_and_confirmed(manner: str) -> None:
    place()
    settle()

    order = OrderSummary.objects.get()
    assert (order.status, order.reference, order.customer_id) == ("confirmed", "536365", CUSTOMER)
    assert (order.total_minor, order.currency, order.line_count, order.units) == (3738, "GBP", 3, 14)
    assert order.confirmed_recorded_at is not None
    assert order.placed_recorded_at <= order.confirmed_recorded_at
    assert CustomerOrder.objects.get(customer_id=CUSTOMER).status == "confirmed"
    assert list(OrderLine.objects.values_list("number", "sku", "quantity", "unit_price_minor")) == [
        (1, HEART, 6, 255),
        (2, LANTERN, 2, 339),
        (3, HEART, 6, 255),
    ]
    payment = PaymentSummary.objects.get()
    assert (payment.payment_id, payment.status, payment.amount_minor) == (PAYMENT, "completed", TOTAL.minor)
    assert ledger() == [("charge", "succeeded", TOTAL.minor)]
    assert payment.charge_reference == GatewayEntry.objects.get().reference
    assert reserved() == {HEART: 12, LANTERN: 2}
    assert StockLevel.objects.get(sku=HEART).available == 8
    shipment = ShipmentSummary.objects.get()
    assert (shipment.shipment_id, shipment.status) == (SHIPMENT_ID, "created")
    assert shipment.tracking_number == Consignment.objects.get(voided_at=None).tracking_number
    assert saga_states(manner) == {"COMPLETED"}
    assert not Timer.objects.exists()


def test_an_imported_order_was_placed_when_it_happened_and_confirmed_now() -> None:
    happened = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    with context.acting(actor="importer", occurred_at=happened):
        place()
    settle()
    order = OrderSummary.objects.get()
    assert order.placed_at == happened < order.placed_recorded_at
    assert order.confirmed_at is not None
    assert order.confirmed_at > happened


def test_a_declined_order_is_cancelled_with_the_reason(manner: str) -> None:
    place("tok_chargeDeclinedInsufficientFunds")
    settle()
    order = OrderSummary.objects.get()
    assert order.status == "cancelled"
    assert order.cancellation_reason == "Payment failed: Your card has insufficient funds."
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.decline_code) == ("failed", "insufficient_funds")
    assert reserved() == {HEART: 0, LANTERN: 0}
    assert saga_states(manner) == {"COMPENSATED"}


def test_an_order_without_stock_gets_its_money_back(manner: str) -> None:
    lines = [*LINES[:1] * 4]
    dispatch(PlaceOrder(order_id=ORDER, customer_id=None, lines=tuple(lines)))
    settle()
    order = OrderSummary.objects.get()
    assert order.status == "cancelled"
    assert order.cancellation_reason == f"Out of stock: {HEART} (24 wanted, 20 available)"
    payment = PaymentSummary.objects.get()
    assert (payment.status, payment.amount_minor, payment.refunded_minor) == ("refunded", 6120, 6120)
    assert ledger() == [("charge", "succeeded", 6120), ("refund", "succeeded", 6120)]
    assert reserved() == {HEART: 0, LANTERN: 0}
    assert saga_states(manner) == {"COMPENSATED"}


@pytest.mark.parametrize("token", ["tok_timeout", "tok_timeout_lost"])
def test_an_unknown_outcome_is_asked_about_again_and_the_money_taken_once(token: str) -> None:
    place(token)
    settle()
    assert OrderSummary.objects.get().status == "confirmed"
    assert ledger() == [("charge", "succeeded", TOTAL.minor)]
    assert GatewayEntry.objects.get().asks == 2


def test_an_order_that_is_cancelled_before_anybody_looked_keeps_nothing(manner: str) -> None:
    place()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    assert OrderSummary.objects.get().status == "cancelled"
    assert ledger() == [("charge", "succeeded", TOTAL.minor), ("refund", "succeeded", TOTAL.minor)]
    assert reserved() == {HEART: 0, LANTERN: 0}
    assert not ShipmentSummary.objects.exists()
    assert saga_states(manner) == {"COMPENSATED"}


def test_an_order_that_costs_nothing_is_fulfilled_without_the_gateway() -> None:
    lines = tuple(type(line)(sku=line.sku, description="", quantity=1, unit_price=pounds("0")) for line in LINES)
    dispatch(PlaceOrder(order_id=ORDER, customer_id=None, lines=lines))
    settle()
    assert OrderSummary.objects.get().status == "confirmed"
    assert PaymentSummary.objects.get().status == "completed"
    assert ledger() == []


def test_an_order_is_shipped_and_delivered() -> None:
    place()
    settle()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()
    assert OrderSummary.objects.get().status == "shipped"
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()
    order, shipment = OrderSummary.objects.get(), ShipmentSummary.objects.get()
    assert (order.status, shipment.status) == ("delivered", "delivered")
    assert None not in (order.shipped_at, order.delivered_at)
    assert None not in (shipment.cleared_at, shipment.dispatched_at, shipment.delivered_at)
    assert list(StockLevel.objects.order_by("sku").values_list("sku", "on_hand", "reserved")) == [
        (LANTERN, 3, 0),
        (HEART, 8, 0),
    ]


def test_an_order_under_way_ends_in_the_manner_that_it_began_with(manner: str, settings: Settings) -> None:
    place()
    settings.FULFILMENT = "choreographed" if manner == "orchestrated" else "orchestrated"
    place()  # sent again, it's the same order
    settle()
    assert OrderSummary.objects.get().status == "confirmed"
    assert saga_states(manner) == {"COMPLETED"}


def test_an_order_that_is_not_fulfilled_in_time_is_cancelled(manner: str) -> None:
    place()
    subscription = subscription_named("payments.charge")
    pause(subscription)
    settle()
    Timer.objects.update(due_at=timezone.now() - timedelta(minutes=1))
    settle()
    assert saga_states(manner) & {"COMPENSATING", "PAYMENT_PENDING"}  # nobody knows about the money yet
    resume(subscription)
    settle()
    order = OrderSummary.objects.get()
    assert (order.status, order.cancellation_reason) == ("cancelled", "It could not be fulfilled in time")
    assert ledger() == [("charge", "succeeded", TOTAL.minor), ("refund", "succeeded", TOTAL.minor)]
    assert saga_states(manner) == {"COMPENSATED"}


@pytest.mark.parametrize("message", ["Declined.\nRing your\0 bank.", "No. " * 1_000], ids=["two lines", "a long story"])
def test_whatever_a_gateway_says_when_it_declines_the_order_is_cancelled(
    manner: str, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    monkeypatch.setattr(SimulatedGateway, "charge", lambda *_, **__: Declined(code="no", message=message))
    place()
    settle()
    assert OrderSummary.objects.get().status == "cancelled"
    assert saga_states(manner) == {"COMPENSATED"}


def test_a_cancellation_that_is_refused_waits_for_a_person_who_has_it_asked_again(
    manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Rejected("Not today.")

    with monkeypatch.context() as today:
        today.setattr(Order, "cancel", refuse)
        place("tok_chargeDeclinedInsufficientFunds")
        settle()
    (saga,) = stuck.stuck()
    assert saga.saga == ("orders.OrderFulfilment" if manner == "orchestrated" else "orders.OrderOutcome")
    assert stuck.why_unfinished(saga).act is stuck.Act.RESUME
    assert "CancelOrder was refused: Not today." in stuck.why_unfinished(saga).sentence

    resuming.resume(saga, who=User.objects.create_user("clerk"))
    settle()
    assert OrderSummary.objects.get().cancellation_reason == "Payment failed: Your card has insufficient funds."
    assert saga_states(manner) == {"COMPENSATED"}


def test_a_cancelled_order_whose_money_is_still_owed_is_stuck_after_a_while(manner: str) -> None:
    pause(subscription_named("shipping.book"))
    pause(subscription_named("payments.refund"))
    place()
    settle()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    assert not stuck.stuck()
    SagaInstance.objects.update(deadline_at=timezone.now())
    assert {saga.saga for saga in stuck.stuck()} >= {
        "orders.OrderFulfilment" if manner == "orchestrated" else "payments.OrderPayment"
    }


@pytest.fixture
def outage() -> Iterator[pytest.MonkeyPatch]:
    """Until it's undone, the gateway gives no money back."""

    def down(*_: object, **__: object) -> None:
        raise GatewayDown("Out of order.")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SimulatedGateway, "refund", down)
        yield patched


def cancelled_but_not_refunded() -> Delivery:
    """The letter of the refund, after the last attempt."""
    pause(subscription_named("shipping.book"))
    place()
    settle()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    resume(subscription_named("shipping.book"))
    return Delivery.objects.get(subscription="payments.refund")


def test_a_refund_that_the_gateway_does_not_make_ends_failed_and_needs_a_person(
    manner: str, outage: pytest.MonkeyPatch
) -> None:
    letter = cancelled_but_not_refunded()
    (saga,) = stuck.stuck()
    assert saga.saga == ("orders.OrderFulfilment" if manner == "orchestrated" else "payments.OrderPayment")
    assert saga.state == "FAILED"
    why = stuck.why_unfinished(saga)
    assert (why.act, why.letter) == (stuck.Act.RETRY, letter.pk)
    assert why.sentence.startswith("It failed, because payments.refund gave up: payments.refund_requested at position")

    letters.retry(Filter(ids=(letter.pk,)), who=User.objects.create_user("clerk"))
    settle()
    assert {each.state for each in stuck.stuck()} == {"FAILED"}  # it's as it was

    outage.undo()
    letters.retry(Filter(ids=(letter.pk,)), who=User.objects.get())
    settle()
    assert ledger() == [("charge", "succeeded", TOTAL.minor), ("refund", "succeeded", TOTAL.minor)]
    assert saga_states(manner) == {"COMPENSATED"}
    assert not stuck.stuck()


def test_who_resumes_what_failed_at_a_refund_has_the_refund_tried_again(
    manner: str, outage: pytest.MonkeyPatch
) -> None:
    cancelled_but_not_refunded()
    outage.undo()
    (saga,) = stuck.stuck()
    assert resuming.resume(saga, who=User.objects.create_user("clerk")).letters == 1
    settle()
    assert ledger() == [("charge", "succeeded", TOTAL.minor), ("refund", "succeeded", TOTAL.minor)]
    assert saga_states(manner) == {"COMPENSATED"}


def test_a_refund_that_somebody_gives_up_can_be_taken_up_again(manner: str, outage: pytest.MonkeyPatch) -> None:
    letter, clerk = cancelled_but_not_refunded(), User.objects.create_user("clerk")
    letters.skip(Filter(ids=(letter.pk,)), reason="The gateway is being replaced.", who=clerk)
    settle()
    (saga,) = stuck.stuck()
    why = stuck.why_unfinished(saga)
    assert (why.act, why.letter) == (stuck.Act.TAKE_UP, letter.pk)
    assert "payments.refund, which it waits for, was given up" in why.sentence
    assert "The gateway is being replaced." in why.sentence

    outage.undo()
    letters.retry(Filter(ids=(letter.pk,)), who=clerk)
    settle()
    assert ("refund", "succeeded", TOTAL.minor) in ledger()
    assert saga_states(manner) == {"COMPENSATED"}


def test_a_charge_that_nobody_knows_of_fails_nothing_yet(manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise OutcomeUnknown

    monkeypatch.setattr(SimulatedGateway, "charge", silent)
    place()
    settle()
    assert Delivery.objects.get(subscription="payments.charge").state == "dead"
    assert "FAILED" not in saga_states(manner)
    saga = SagaInstance.objects.get(key=ORDER, saga__in=("orders.OrderFulfilment", "payments.OrderPayment"))
    assert stuck.why_unfinished(saga).act is stuck.Act.RETRY
