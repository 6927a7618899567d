from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventing.contact import Contact
from eventing.domain import Command, CommandRejected, GivenUp, Resumed, TimedOut
from inventory.commands import ReleaseReservation, ReserveInventory
from orders.commands import CancelOrder, ConfirmOrder
from orders.events import BuyerForgotten, OrderConfirmed
from orders.sagas import OrderFulfilment, OrderOutcome
from payments.commands import ProcessPayment, RefundPayment
from shipping.commands import CancelShipment, CreateShipment
from tests.builders import (
    CANCELLED,
    DECLINED,
    ORDER,
    OUT_OF_STOCK,
    OWED,
    PAID,
    PAYMENT,
    PLACED,
    REFUNDED,
    RELEASED,
    REQUESTED,
    RESERVED,
    SHIPMENT,
    SHIPMENT_CANCELLED,
    SHIPMENT_ID,
    TOTAL,
    WANTED,
)

CANCEL_SHIPMENT = CancelShipment(shipment_id=SHIPMENT_ID)
RELEASE = ReleaseReservation(order_id=ORDER)
REFUND = RefundPayment(payment_id=PAYMENT)
CONFIRM = ConfirmOrder(order_id=ORDER)
DEADLINE = TimedOut(about="deadline")


def cancel_because(reason: str) -> CancelOrder:
    return CancelOrder(order_id=ORDER, reason=reason)


def refused(command: Command) -> CommandRejected:
    return CommandRejected(command=command, reason="No.")


def saga_after(*events: Any) -> OrderFulfilment:
    saga = OrderFulfilment(id=ORDER)
    for event in events:
        list(saga.react(event))
    return saga


def commands_after(*events: Any) -> list[Command]:
    """What the last of these events makes the saga ask for."""
    *before, last = events
    return list(saga_after(*before).react(last))


def state_after(*events: Any) -> str:
    return saga_after(*events).state


def test_a_placed_order_is_to_be_paid_for() -> None:
    assert commands_after(PLACED) == [
        ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, method="tok_visa")
    ]


def test_a_placed_order_has_a_deadline() -> None:
    assert list(saga_after(PLACED).reminders) == ["deadline"]


def test_once_it_is_paid_its_stock_is_reserved_article_by_article() -> None:
    assert commands_after(PLACED, PAID) == [ReserveInventory(order_id=ORDER, lines=WANTED)]


def test_once_its_stock_is_reserved_a_shipment_is_created() -> None:
    assert commands_after(PLACED, PAID, RESERVED) == [
        CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER, person_id=PLACED.customer_id)
    ]


def test_the_shipment_goes_to_the_buyer_and_the_saga_remembers_nobody() -> None:
    ada = Contact(name="Ada Lovelace")
    placed = msgspec.structs.replace(PLACED, contact=ada)
    assert saga_after(placed, PAID).recipient == ada
    (create,) = commands_after(placed, PAID, RESERVED)
    assert isinstance(create, CreateShipment)
    assert create.recipient == ada
    assert saga_after(placed, PAID, RESERVED).recipient is None
    assert saga_after(placed, PAID, OUT_OF_STOCK).recipient is None
    assert saga_after(placed, PAID, BuyerForgotten(order_id=ORDER)).recipient is None


def test_an_order_is_confirmed_once_its_shipment_exists() -> None:
    assert commands_after(PLACED, PAID, RESERVED, SHIPMENT) == [CONFIRM]


def test_the_state_names_what_is_awaited() -> None:
    assert [state_after(*[PLACED, PAID, RESERVED, SHIPMENT][:count]) for count in range(5)] == [
        "STARTED",
        "PAYMENT_PENDING",
        "INVENTORY_PENDING",
        "SHIPPING_PENDING",
        "COMPLETED",
    ]


def test_an_order_that_can_not_be_paid_for_is_cancelled() -> None:
    assert commands_after(PLACED, DECLINED) == [cancel_because("Payment failed: Your card was declined.")]
    assert state_after(PLACED, DECLINED) == "COMPENSATED"


def test_without_stock_the_payment_is_refunded_before_the_order_is_cancelled() -> None:
    assert commands_after(PLACED, PAID, OUT_OF_STOCK) == [
        REFUND,
        cancel_because("Out of stock: 71053 (2 wanted, 1 available)"),
    ]


def test_what_was_done_is_undone_newest_first() -> None:
    assert commands_after(PLACED, PAID, RESERVED, DEADLINE) == [
        CANCEL_SHIPMENT,
        RELEASE,
        REFUND,
        cancel_because("It could not be fulfilled in time"),
    ]


def test_it_is_compensated_only_when_everything_was_confirmed_undone() -> None:
    undone = [SHIPMENT_CANCELLED, RELEASED, REFUNDED]
    assert [state_after(PLACED, PAID, RESERVED, CANCELLED, *undone[:count]) for count in range(4)] == [
        "COMPENSATING",
        "COMPENSATING",
        "COMPENSATING",
        "COMPENSATED",
    ]


def test_a_customer_who_cancels_gets_back_what_there_is_by_then() -> None:
    assert commands_after(PLACED, PAID, RESERVED, CANCELLED) == [CANCEL_SHIPMENT, RELEASE, REFUND]
    assert commands_after(PLACED, PAID, CANCELLED) == [RELEASE, REFUND]


def test_its_own_cancellation_is_no_news() -> None:
    assert commands_after(PLACED, PAID, OUT_OF_STOCK, CANCELLED) == []


def test_nothing_is_asked_to_be_undone_twice() -> None:
    assert commands_after(PLACED, PAID, RESERVED, DEADLINE, CANCELLED) == []


def test_a_payment_that_completes_after_the_cancellation_is_refunded() -> None:
    assert commands_after(PLACED, CANCELLED) == []
    assert state_after(PLACED, CANCELLED) == "COMPENSATING"
    assert commands_after(PLACED, CANCELLED, PAID) == [REFUND]
    assert state_after(PLACED, CANCELLED, PAID, REFUNDED) == "COMPENSATED"


def test_a_payment_that_fails_after_the_cancellation_leaves_nothing_to_do() -> None:
    assert commands_after(PLACED, CANCELLED, DECLINED) == []
    assert state_after(PLACED, CANCELLED, DECLINED) == "COMPENSATED"


def test_stock_that_turns_out_reserved_after_the_cancellation_was_released_already() -> None:
    assert commands_after(PLACED, PAID, CANCELLED, RESERVED) == []
    assert state_after(PLACED, PAID, CANCELLED, RESERVED, RELEASED, REFUNDED) == "COMPENSATED"


def test_stock_that_turns_out_missing_after_the_cancellation_needs_no_release() -> None:
    assert state_after(PLACED, PAID, CANCELLED, OUT_OF_STOCK, REFUNDED) == "COMPENSATED"


def test_a_shipment_that_turns_out_created_after_the_cancellation_was_cancelled_already() -> None:
    assert commands_after(PLACED, PAID, RESERVED, CANCELLED, SHIPMENT) == []


def test_while_it_is_not_known_whether_money_was_taken_the_deadline_cancels_nothing() -> None:
    assert commands_after(PLACED, DEADLINE) == []
    assert state_after(PLACED, DEADLINE) == "COMPENSATING"


def test_after_the_deadline_the_order_is_cancelled_once_the_money_is_certainly_not_kept() -> None:
    cancel = cancel_because("It could not be fulfilled in time")
    assert commands_after(PLACED, DEADLINE, PAID) == [REFUND, cancel]
    assert commands_after(PLACED, DEADLINE, DECLINED) == [cancel]


def test_when_the_customer_cancels_a_moment_before_the_confirmation_it_waits_for_that_news() -> None:
    story = [PLACED, PAID, RESERVED, SHIPMENT, refused(CONFIRM)]
    assert commands_after(*story) == []
    assert state_after(*story) == "SHIPPING_PENDING"
    assert commands_after(*story, CANCELLED) == [CANCEL_SHIPMENT, RELEASE, REFUND]


def test_a_step_that_is_refused_is_not_undone_but_those_before_it_are() -> None:
    asked = CreateShipment(shipment_id=SHIPMENT_ID, order_id=ORDER)
    assert commands_after(PLACED, PAID, RESERVED, refused(asked)) == [RELEASE, REFUND, cancel_because("No.")]


def test_a_compensation_that_is_refused_ends_in_failure_for_a_person_to_see() -> None:
    saga = saga_after(PLACED, PAID, RESERVED, CANCELLED, refused(CANCEL_SHIPMENT))
    assert (saga.state, saga.reason) == ("FAILED", "CancelShipment was refused: No.")


def test_a_failed_saga_still_gives_back_what_arrives_late() -> None:
    cancel = cancel_because("Changed my mind")
    assert commands_after(PLACED, CANCELLED, refused(cancel), PAID) == [REFUND]
    assert state_after(PLACED, CANCELLED, refused(cancel), PAID, REFUNDED) == "FAILED"


@pytest.mark.parametrize("before", [[PLACED], [PLACED, PAID]], ids=["payment", "stock"])
def test_resumed_on_its_way_it_asks_again_for_the_step_that_it_awaits(before: list[Any]) -> None:
    assert commands_after(*before, Resumed()) == commands_after(*before)
    assert state_after(*before, Resumed()) == state_after(*before)


def test_resumed_while_its_shipment_is_awaited_it_asks_again_without_the_address_that_shipping_has_by_now() -> None:
    (again,) = commands_after(PLACED, PAID, RESERVED, Resumed())
    assert isinstance(again, CreateShipment)
    assert (again.shipment_id, again.recipient) == (SHIPMENT_ID, None)


def test_resumed_while_it_compensates_it_asks_again_for_what_is_not_undone() -> None:
    before = [PLACED, PAID, RESERVED, SHIPMENT_CANCELLED]
    cancel = cancel_because("The shipment was cancelled")
    assert commands_after(*before) == [RELEASE, REFUND, cancel]
    assert commands_after(*before, Resumed()) == [RELEASE, REFUND, cancel]
    assert commands_after(*before, RELEASED, Resumed()) == [REFUND, cancel]
    assert state_after(*before, RELEASED, Resumed(), REFUNDED) == "COMPENSATED"


def test_a_failed_saga_that_is_resumed_asks_again_for_what_was_refused() -> None:
    failed = [PLACED, PAID, OUT_OF_STOCK, refused(REFUND), CANCELLED]
    assert state_after(*failed) == "FAILED"
    commands = commands_after(*failed, Resumed())
    assert commands[0] == REFUND
    assert isinstance(commands[1], CancelOrder)
    assert commands[1].reason.startswith("Out of stock")
    assert state_after(*failed, Resumed()) == "COMPENSATING"
    assert state_after(*failed, Resumed(), REFUNDED) == "COMPENSATED"
    assert state_after(*failed, Resumed(), refused(REFUND)) == "FAILED"


def test_a_refund_that_the_gateway_does_not_make_is_left_to_a_person_until_it_does() -> None:
    failed = [PLACED, PAID, OUT_OF_STOCK, CANCELLED, GivenUp(event=OWED, letter=12)]
    assert (state_after(*failed), saga_after(*failed).reason) == (
        "FAILED",
        "The refund was given up; letter 12 says why",
    )
    assert commands_after(*failed) == []
    assert state_after(*failed, REFUNDED) == "COMPENSATED"
    assert saga_after(*failed, REFUNDED).reason.startswith("Out of stock")
    assert commands_after(*failed, Resumed())[0] == REFUND
    assert state_after(*failed, Resumed()) == "COMPENSATING"
    assert state_after(*failed, Resumed(), REFUNDED) == "COMPENSATED"


def test_a_refund_that_is_made_at_last_makes_nothing_good_that_was_refused() -> None:
    refused_release = [PLACED, PAID, RESERVED, SHIPMENT_CANCELLED, refused(RELEASE)]
    assert state_after(*refused_release, GivenUp(event=OWED, letter=12), REFUNDED) == "FAILED"


def test_of_what_else_is_given_up_nothing_follows_yet() -> None:
    part = msgspec.structs.replace(OWED, refund_id=ORDER)
    assert state_after(PLACED, GivenUp(event=REQUESTED, letter=12)) == "PAYMENT_PENDING"
    assert state_after(PLACED, CANCELLED, GivenUp(event=REQUESTED, letter=12)) == "COMPENSATING"
    assert state_after(PLACED, PAID, RESERVED, SHIPMENT, GivenUp(event=part, letter=12)) == "COMPLETED"


WORDS = [("Declined.\nRing your bank.", "Declined. Ring your bank."), ("x" * 1_000, "x" * 984)]


@pytest.mark.parametrize(("said", "told"), WORDS, ids=["two lines", "a thousand characters"])
def test_whatever_a_gateway_says_becomes_a_reason_that_an_order_takes(said: str, told: str) -> None:
    declined = msgspec.structs.replace(DECLINED, message=said)
    cancel = cancel_because(f"Payment failed: {told}")
    assert commands_after(PLACED, declined) == [cancel]
    assert commands_after(PLACED, declined, refused(cancel), Resumed()) == [cancel]
    assert outcome(PLACED, declined) == ([cancel], "COMPENSATING")


def test_a_failed_saga_that_is_resumed_asks_again_for_a_cancellation_that_was_refused() -> None:
    cancel = cancel_because("Changed my mind")
    failed = [PLACED, DECLINED, refused(cancel_because("Payment failed: Your card was declined."))]
    assert state_after(*failed) == "FAILED"
    assert commands_after(*failed, Resumed()) == [cancel_because("Payment failed: Your card was declined.")]
    assert state_after(*failed, Resumed()) == "COMPENSATED"
    assert cancel not in commands_after(*failed, Resumed())


@pytest.mark.parametrize("ended", [[PAID, RESERVED, SHIPMENT], [DECLINED]], ids=["COMPLETED", "COMPENSATED"])
def test_resumed_when_it_has_ended_it_does_nothing(ended: list[Any]) -> None:
    assert commands_after(PLACED, *ended, Resumed()) == []
    assert state_after(PLACED, *ended, Resumed()) == state_after(PLACED, *ended)


def test_what_happens_after_the_confirmation_is_not_its_business() -> None:
    for event in (DEADLINE, SHIPMENT_CANCELLED, RELEASED, REFUNDED):
        assert commands_after(PLACED, PAID, RESERVED, SHIPMENT, event) == []
        assert state_after(PLACED, PAID, RESERVED, SHIPMENT, event) == "COMPLETED"


def test_a_shipment_that_somebody_cancels_by_hand_ends_the_order() -> None:
    assert commands_after(PLACED, PAID, RESERVED, SHIPMENT_CANCELLED) == [
        RELEASE,
        REFUND,
        cancel_because("The shipment was cancelled"),
    ]


def outcome(*events: Any) -> tuple[list[Command], str]:
    """What the last of these events makes the choreographed order ask for, and its state then."""
    saga, commands = OrderOutcome(id=ORDER), list[Command]()
    for event in events:
        commands = list(saga.react(event))
    return commands, saga.state


def test_left_to_choreography_an_order_only_watches_until_its_parcel_is_booked() -> None:
    assert outcome(PLACED) == ([], "PAYMENT_PENDING")
    assert outcome(PLACED, PAID) == ([], "INVENTORY_PENDING")
    assert outcome(PLACED, PAID, RESERVED) == ([], "SHIPPING_PENDING")
    assert outcome(PLACED, PAID, RESERVED, SHIPMENT) == ([CONFIRM], "SHIPPING_PENDING")
    assert outcome(PLACED, PAID, RESERVED, SHIPMENT, OrderConfirmed(order_id=ORDER)) == ([], "COMPLETED")


def test_left_to_choreography_an_order_is_cancelled_by_the_first_step_that_fails() -> None:
    declined = cancel_because("Payment failed: Your card was declined.")
    assert outcome(PLACED, DECLINED) == ([declined], "COMPENSATING")
    missing = cancel_because("Out of stock: 71053 (2 wanted, 1 available)")
    assert outcome(PLACED, PAID, OUT_OF_STOCK) == ([missing], "COMPENSATING")
    assert outcome(PLACED, DEADLINE) == ([cancel_because("It could not be fulfilled in time")], "COMPENSATING")
    assert outcome(PLACED, DEADLINE, CANCELLED) == ([], "COMPENSATED")


def test_left_to_choreography_a_cancelled_order_asks_for_nothing_more() -> None:
    for late in (PAID, RESERVED, SHIPMENT, DECLINED, REFUNDED, RELEASED, SHIPMENT_CANCELLED, DEADLINE):
        assert outcome(PLACED, CANCELLED, late) == ([], "COMPENSATED")


def test_left_to_choreography_a_cancellation_that_is_refused_is_left_to_a_person() -> None:
    cancel = cancel_because("Payment failed: Your card was declined.")
    failed = [PLACED, DECLINED, refused(cancel)]
    assert outcome(*failed) == ([], "FAILED")
    assert outcome(*failed, CANCELLED) == ([], "COMPENSATED")


def test_left_to_choreography_a_person_can_have_an_order_cancelled_again() -> None:
    cancel = cancel_because("Payment failed: Your card was declined.")
    assert outcome(PLACED, DECLINED, refused(cancel), Resumed()) == ([cancel], "COMPENSATING")
    assert outcome(PLACED, DECLINED, Resumed()) == ([cancel], "COMPENSATING")
    assert outcome(PLACED, PAID, Resumed()) == ([], "INVENTORY_PENDING")
    assert outcome(PLACED, CANCELLED, Resumed()) == ([], "COMPENSATED")


def test_left_to_choreography_an_order_that_is_just_being_confirmed_is_not_given_up() -> None:
    confirming = [PLACED, PAID, RESERVED, SHIPMENT]
    for late in (DEADLINE, SHIPMENT_CANCELLED, RELEASED, REFUNDED):
        assert outcome(*confirming, late) == ([], "SHIPPING_PENDING")
        assert outcome(*confirming, late, OrderConfirmed(order_id=ORDER)) == ([], "COMPLETED")


def test_left_to_choreography_an_order_that_is_cancelled_before_it_can_be_confirmed_is_no_failure() -> None:
    confirming = [PLACED, PAID, RESERVED, SHIPMENT, refused(CONFIRM)]
    assert outcome(*confirming) == ([], "SHIPPING_PENDING")
    assert outcome(*confirming, CANCELLED) == ([], "COMPENSATED")
    assert outcome(*confirming, DEADLINE) == ([cancel_because("It could not be fulfilled in time")], "COMPENSATING")
