from __future__ import annotations

from typing import Any

import msgspec

from eventing.domain import Command, CommandRejected, GivenUp, Resumed, TimedOut
from orders.events import Fulfilment
from payments.commands import ProcessPayment, RefundPayment
from payments.sagas import OrderPayment
from tests.builders import CANCELLED, DECLINED, ORDER, OWED, PAID, PAYMENT, PLACED, REFUNDED, REQUESTED, TOTAL

REFUND = RefundPayment(payment_id=PAYMENT)


def story(*events: Any) -> tuple[list[Command], str]:
    """What the last of these events makes the saga ask for, and its state then."""
    saga, commands = OrderPayment(id=ORDER), list[Command]()
    for event in events:
        commands = list(saga.react(event))
    return commands, saga.state


def test_it_sees_to_orders_that_nobody_conducts() -> None:
    assert not OrderPayment.is_begun_by(PLACED)
    assert OrderPayment.is_begun_by(msgspec.structs.replace(PLACED, fulfilment=Fulfilment.CHOREOGRAPHED))


def test_a_placed_order_is_to_be_paid_for() -> None:
    asked = ProcessPayment(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, method="tok_visa")
    assert story(PLACED) == ([asked], "PAYMENT_PENDING")


def test_money_is_given_back_when_the_order_is_cancelled_however_early() -> None:
    assert story(PLACED, PAID, CANCELLED) == ([REFUND], "COMPENSATING")
    assert story(PLACED, CANCELLED) == ([], "PAYMENT_PENDING")
    assert story(PLACED, CANCELLED, PAID) == ([REFUND], "COMPENSATING")
    assert story(PLACED, CANCELLED, PAID, REFUNDED) == ([], "COMPENSATED")


def test_of_a_declined_payment_nothing_is_given_back() -> None:
    assert story(PLACED, DECLINED, CANCELLED) == ([], "COMPENSATED")


def test_a_refund_that_is_refused_is_left_to_a_person() -> None:
    refused = CommandRejected(command=REFUND, reason="No.")
    assert story(PLACED, PAID, CANCELLED, refused) == ([], "FAILED")


def test_a_refund_that_the_gateway_does_not_make_is_left_to_a_person_until_it_does() -> None:
    given_up = GivenUp(event=OWED, letter=12)
    assert story(PLACED, PAID, CANCELLED, given_up) == ([], "FAILED")
    assert story(PLACED, PAID, CANCELLED, given_up, REFUNDED) == ([], "COMPENSATED")
    assert story(PLACED, PAID, CANCELLED, given_up, Resumed()) == ([REFUND], "COMPENSATING")


def test_of_what_else_the_gateway_does_not_do_nothing_follows_yet() -> None:
    charge = GivenUp(event=REQUESTED, letter=12)
    part = GivenUp(event=msgspec.structs.replace(OWED, refund_id=ORDER), letter=12)
    assert story(PLACED, charge) == ([], "PAYMENT_PENDING")
    assert story(PLACED, CANCELLED, charge) == ([], "PAYMENT_PENDING")
    assert story(PLACED, PAID, part) == ([], "COMPLETED")
    assert story(PLACED, PAID, CANCELLED, part) == ([], "COMPENSATING")


def test_a_person_can_have_it_ask_again_for_what_was_refused() -> None:
    refused = CommandRejected(command=REFUND, reason="No.")
    assert story(PLACED, PAID, CANCELLED, refused, Resumed()) == ([REFUND], "COMPENSATING")
    assert story(PLACED, PAID, CANCELLED, Resumed()) == ([], "COMPENSATING")


def test_it_has_a_deadline_and_one_more_for_giving_back() -> None:
    saga = OrderPayment(id=ORDER)
    for event in (PLACED, PAID):
        list(saga.react(event))
    assert list(saga.reminders) == ["deadline"]
    saga.reminders = {}
    list(saga.react(CANCELLED))
    assert list(saga.reminders) == ["deadline"]


def test_when_its_time_is_up_it_leaves_what_is_to_be_done_to_others() -> None:
    late = TimedOut(about="deadline")
    assert story(PLACED, late) == ([], "PAYMENT_PENDING")
    assert story(PLACED, PAID, CANCELLED, late) == ([], "COMPENSATING")
