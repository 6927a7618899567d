"""Why an order isn't finished, in each situation that an order can be in; all of them really made."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from config.dashboard import unfinished
from config.dashboard.history import history
from config.dashboard.unfinished import Why, why_unfinished
from eventing import deliveries, letters
from eventing.advance import advance
from eventing.checkpoints import pause, resume
from eventing.effects import perform_due
from eventing.handlers import dispatch
from eventing.letters import Filter
from eventing.models import Checkpoint, Delivery, OutboxEntry, SagaInstance
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named, subscriptions
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import CancelOrder, PlaceOrder, ReturnItems, ReturnLine
from orders.events import Fulfilment
from payments.commands import RecordRefund
from payments.models import GatewayOutage
from shipping.commands import DeliverShipment, DispatchShipment
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, pounds

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[each.value for each in Fulfilment], autouse=True)
def manner(request: pytest.FixtureRequest, settings: pytest.FixtureRequest) -> str:
    settings.FULFILMENT = request.param  # type: ignore[attr-defined]
    return str(request.param)


def stocked(units: int = 20) -> None:
    for sku, price in ((HEART, "2.55"), (LANTERN, "3.39")):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=units))


def place(method: str = "tok_visa") -> None:
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, reference="536365", payment_method=method))


def why(*, with_personal_data: bool = False) -> Why:
    return why_unfinished(history(ORDER, with_personal_data=False), with_personal_data=with_personal_data)


def an_hour_ago(*, of: type[Checkpoint | OutboxEntry | Delivery | SagaInstance], field: str) -> None:
    of.objects.update(**{field: timezone.now() - timedelta(hours=1)})


def placed_and_not_relayed() -> None:
    place()


def the_relay_stands_still() -> None:
    place()
    an_hour_ago(of=OutboxEntry, field="created_at")


def confirmed() -> None:
    stocked()
    place()
    settle()


def shipped() -> None:
    confirmed()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()


def delivered() -> None:
    shipped()
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()


def declined() -> None:
    place("tok_chargeDeclined")
    settle()


def declined_and_not_cancelled_yet() -> None:
    place("tok_chargeDeclined")
    _until("payments.charge")


def out_of_stock() -> None:
    stocked(3)
    place()
    settle()


def the_gateway_has_been_asked() -> None:
    stocked()
    place()
    _until("payments.charge", perform=False)


def the_gateway_failed_once() -> None:
    stocked()
    GatewayOutage.objects.create(message="Back at ten.")
    place()
    _until("payments.charge")
    Delivery.objects.filter(subscription="payments.charge").update(
        state="waiting", attempts=2, due_at=timezone.now() + timedelta(minutes=5)
    )


def the_gateway_failed_each_time() -> None:
    stocked()
    GatewayOutage.objects.create(message="Back at ten.")
    place()
    settle()


def the_gateway_subscription_is_paused() -> None:
    stocked()
    pause(subscription_named("payments.charge"))
    place()
    settle()


def the_carrier_is_paused() -> None:
    stocked()
    pause(subscription_named("shipping.book"))
    place()
    settle()


def the_policy_of_clearing_is_paused() -> None:
    stocked()
    pause(subscription_named("shipping.clear_for_dispatch"))
    place()
    settle()


def the_gateway_failed_and_is_paused() -> None:
    the_gateway_failed_once()
    pause(subscription_named("payments.charge"))


def the_next_attempt_is_overdue() -> None:
    the_gateway_failed_once()
    an_hour_ago(of=Delivery, field="due_at")


def given_up(subscription: str) -> None:
    letters.skip(Filter(subscription=subscription), reason="A test.", who=User.objects.create_user("clerk"))
    settle()


def the_charge_was_given_up() -> None:
    the_gateway_failed_each_time()
    given_up("payments.charge")


def the_refund_fails() -> None:
    """Of an order that its customer cancelled."""
    stocked()
    pause(subscription_named("shipping.book"))
    place()
    settle()
    GatewayOutage.objects.create(message="Back at ten.")
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()


def the_refund_was_given_up() -> None:
    the_refund_fails()
    resume(subscription_named("shipping.book"))
    given_up("payments.refund")


def the_refund_was_given_up_and_made_by_hand() -> None:
    the_refund_was_given_up()
    dispatch(RecordRefund(payment_id=PAYMENT, refund_id=None, reference="by hand"))
    settle()


def the_refund_of_a_return_was_given_up() -> None:
    delivered()
    GatewayOutage.objects.create(message="Back at ten.")
    back = (ReturnLine(number=1, quantity=1),)
    dispatch(ReturnItems(order_id=ORDER, return_id=uuid4(), lines=back, reason="Broken"))
    settle()
    given_up("payments.refund")


def the_booking_was_given_up() -> None:
    the_carrier_is_paused()
    resume(subscription_named("shipping.book"))
    advance(subscription_named("shipping.book"), 0)
    deliveries.skip(Delivery.objects.filter(subscription="shipping.book"), reason="A test.")


def the_booking_was_given_up_and_the_order_cancelled() -> None:
    the_booking_was_given_up()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()


def cancelled_and_past_its_deadline() -> None:
    stocked()
    for effect in ("shipping.book", "payments.refund"):
        pause(subscription_named(effect))
    place()
    settle()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    for effect in ("shipping.book", "payments.refund"):
        resume(subscription_named(effect))
        advance(subscription_named(effect), 0)
    Delivery.objects.all().delete()
    an_hour_ago(of=SagaInstance, field="deadline_at")
    an_hour_ago(of=SagaInstance, field="updated_at")


def cancelled_at_its_deadline_a_moment_ago() -> None:
    cancelled_and_past_its_deadline()
    SagaInstance.objects.update(updated_at=timezone.now())


def the_workers_had_nothing_to_do_for_long() -> None:
    stocked()
    place()
    list(relay_all())
    an_hour_ago(of=Checkpoint, field="moved_at")


def cancelled_while_the_gateway_is_asked() -> None:
    the_gateway_has_been_asked()
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    Delivery.objects.all().delete()  # whoever was to ask the gateway isn't known of
    _advance_all_but("payments.charge")


def past_its_deadline() -> None:
    the_gateway_has_been_asked()
    Delivery.objects.all().delete()
    SagaInstance.objects.update(deadline_at=timezone.now() - timedelta(hours=1))


def its_saga_failed() -> None:
    the_gateway_has_been_asked()
    SagaInstance.objects.update(failed=True, memory=F("memory"))
    SagaInstance.objects.update(memory={"reason": "RefundPayment was refused"})
    Delivery.objects.all().delete()


SITUATIONS: list[tuple[Callable[[], None], str, str, str]] = [
    (placed_and_not_relayed, "It is placed, and its payment is being asked for.", "waiting", "goes on by itself"),
    (the_relay_stands_still, "the relay has stood still for 1 hour", "bad", "workers and the beat"),
    (
        the_gateway_has_been_asked,
        "It waits for the gateway to take the payment, which was asked",
        "waiting",
        "by itself",
    ),
    (
        the_gateway_failed_once,
        r"It waits for the gateway to take the payment: attempt 3 of 8 is next, at .+ Last error: GatewayDown\.",
        "waiting",
        "tried again by itself",
    ),
    (
        the_gateway_failed_each_time,
        r"the gateway to take the payment: that failed 8 times and isn't tried any more. Last error: GatewayDown\.",
        "bad",
        "retry the letter once",
    ),
    (the_gateway_subscription_is_paused, "payments.charge is paused", "waiting", "Resume the subscription"),
    (the_carrier_is_paused, "shipping.book is paused", "waiting", "Resume the subscription"),
    (the_policy_of_clearing_is_paused, "shipping.clear_for_dispatch is paused", "waiting", "Resume the subscription"),
    (the_workers_had_nothing_to_do_for_long, "It is placed, and its payment is being asked", "waiting", "by itself"),
    (the_gateway_failed_and_is_paused, "payments.charge is paused", "waiting", "Resume the subscription"),
    (the_next_attempt_is_overdue, "attempt 3 of 8 is next", "bad", "See whether the workers run"),
    (the_charge_was_given_up, "the gateway to take the payment, which was given up: A test", "bad", "Retry the letter"),
    (the_refund_was_given_up, "gateway to give the money back, which was given up: A test", "bad", "Retry the letter"),
    (the_refund_was_given_up_and_made_by_hand, "37.38 GBP was given back. Nothing is left to be done.", "good", ""),
    (
        the_refund_of_a_return_was_given_up,
        "gateway to give the money back, which was given up: A test",
        "bad",
        "Retry the letter",
    ),
    (the_booking_was_given_up, "carrier to book the shipment, which was given up: A test", "bad", "Retry the letter"),
    (the_booking_was_given_up_and_the_order_cancelled, "37.38 GBP was given back. Nothing is left", "good", ""),
    (cancelled_at_its_deadline_a_moment_ago, "37.38 GBP is still to be given back", "waiting", "goes on by itself"),
    (cancelled_and_past_its_deadline, "what was done for it isn't all undone yet", "bad", "See what its saga"),
    (past_its_deadline, "past its deadline, which was 1 hour ago", "bad", "See what its saga waits for"),
    (its_saga_failed, r"Its saga .+ failed: RefundPayment was refused\.", "bad", "resume the saga"),
    (
        declined_and_not_cancelled_yet,
        r"Its payment was declined \(Your card was declined\), and it is being cancelled",
        "waiting",
        "by itself",
    ),
    (declined, "It is cancelled: Payment failed: Your card was declined. Nothing is left to be done.", "good", ""),
    (out_of_stock, r"It is cancelled: Out of stock: .+ 37.38 GBP was given back. Nothing is left", "good", ""),
    (cancelled_while_the_gateway_is_asked, "Whether its payment was taken isn't known yet", "waiting", "by itself"),
    (confirmed, "It is confirmed, and waits to be dispatched.", "waiting", "Dispatch its shipment"),
    (shipped, "It is shipped, and waits to be delivered.", "waiting", "Mark its shipment as delivered"),
    (delivered, "It is delivered. Nothing is left to be done.", "good", ""),
]


@pytest.mark.parametrize(
    ("situation", "sentence", "look", "helps"), SITUATIONS, ids=lambda each: getattr(each, "__name__", "")
)
def test_an_order_says_why_it_isnt_finished(
    situation: Callable[[], None], sentence: str, look: str, helps: str
) -> None:
    situation()
    told = why()
    assert re.search(sentence, told.sentence), told.sentence
    assert (told.look, told.finished) == (look, look == "good")
    assert helps in told.helps
    assert bool(told.helps) is bool(helps)


def test_workers_that_dont_run_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    the_workers_had_nothing_to_do_for_long()
    monkeypatch.setattr(unfinished, "SLOW", timedelta(0))
    assert re.search("behind and doesn't move", why().sentence)
    assert (why().look, why().helps) == ("bad", "See whether the workers run.")


def test_the_error_itself_is_for_those_who_may_see_personal_data() -> None:
    the_gateway_failed_each_time()
    assert "Back at ten" not in why().sentence
    assert "Last error: GatewayDown: Back at ten" in why(with_personal_data=True).sentence


def _until(effect: str, *, perform: bool = True) -> None:
    """Let everybody do their work, until an effect has asked, or has been asked to ask; what follows isn't heard."""
    asked = subscription_named(effect)
    while not Delivery.objects.filter(subscription=effect).exists():
        list(relay_all())
        for each in subscriptions():
            for partition in range(each.partitions):
                advance(each, partition)
    if perform:
        perform_due(asked, budget=60)  # type: ignore[arg-type]
        list(relay_all())


def _advance_all_but(name: str) -> None:
    for _ in range(3):
        list(relay_all())
        for each in subscriptions():
            for partition in range(each.partitions):
                while each.name != name and advance(each, partition):
                    pass
