from __future__ import annotations

from typing import Any

import pytest

from eventing.domain import Rejected
from payments.aggregates import Payment
from payments.commands import Charged, Declined
from payments.events import PaymentRequested, RefundRequested
from tests.builders import CUSTOMER, DECLINED, ORDER, PAID, PAYMENT, REFUNDED, TOTAL, pounds

REQUESTED = PaymentRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, method="tok_visa")
REFUNDING = RefundRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, charge="ch_1")
CHARGED = Charged(reference="ch_1")
REFUSAL = Declined(code="card_declined", message="Your card was declined.")


def payment_after(*events: Any) -> Payment:
    payment = Payment(PAYMENT)
    for event in events:
        payment.apply(event)
    return payment


def test_a_payment_is_requested_once_however_often_it_is_asked_for() -> None:
    payment = Payment(PAYMENT)
    payment.request(ORDER, TOTAL, "tok_visa")
    payment.request(ORDER, TOTAL, "tok_visa")
    assert payment.recorded == [REQUESTED]


def test_one_payment_is_not_asked_for_two_amounts_or_orders() -> None:
    with pytest.raises(Rejected, match=r"is 37\.38 GBP for order"):
        payment_after(REQUESTED).request(ORDER, pounds("1"), "tok_visa")
    with pytest.raises(Rejected, match="for order"):
        payment_after(REQUESTED).request(CUSTOMER, TOTAL, "tok_visa")


def test_a_payment_is_not_negative() -> None:
    with pytest.raises(Rejected, match="A payment is 0 or more"):
        Payment(PAYMENT).request(ORDER, pounds("-1"), "tok_visa")


@pytest.mark.parametrize(("outcome", "event"), [(CHARGED, PAID), (REFUSAL, DECLINED)])
def test_the_outcome_settles_it_and_is_recorded_once(outcome: Charged | Declined, event: object) -> None:
    payment = payment_after(REQUESTED)
    payment.settle(outcome)
    payment.settle(outcome)
    assert payment.recorded == [event]


def test_a_second_outcome_that_contradicts_the_first_is_refused() -> None:
    with pytest.raises(Rejected, match="was settled as"):
        payment_after(REQUESTED, DECLINED).settle(CHARGED)


def test_an_outcome_repeated_after_the_refund_changes_nothing() -> None:
    payment = payment_after(REQUESTED, PAID, REFUNDING, REFUNDED)
    payment.settle(CHARGED)
    assert payment.recorded == []


def test_a_completed_payment_is_refunded_once() -> None:
    payment = payment_after(REQUESTED, PAID)
    payment.refund()
    payment.refund()
    payment.record_refund("re_1")
    payment.record_refund("re_1")
    payment.refund()
    assert payment.recorded == [REFUNDING, REFUNDED]


@pytest.mark.parametrize("before", [(), (REQUESTED,), (REQUESTED, DECLINED)])
def test_nothing_is_refunded_that_was_not_taken(before: tuple[Any, ...]) -> None:
    with pytest.raises(Rejected, match="can't be refunded, only one that is completed"):
        payment_after(*before).refund()


def test_a_refund_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(Rejected, match="has no refund 're_1' to wait for"):
        payment_after(REQUESTED, PAID).record_refund("re_1")


def test_where_there_is_nothing_to_pay_nobody_has_to_be_asked() -> None:
    payment = Payment(PAYMENT)
    payment.request(ORDER, pounds("0"), "tok_visa")
    payment.request(ORDER, pounds("0"), "tok_visa")
    payment.refund()
    payment.refund()
    assert [type(event).__name__ for event in payment.recorded] == ["PaymentCompleted", "PaymentRefunded"]
