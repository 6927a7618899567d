from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from eventing.domain import Rejected
from eventing.money import Money
from payments.aggregates import Payment, Status
from payments.commands import Charged, Declined
from payments.events import PaymentRefunded, PaymentRequested, RefundRequested
from tests.builders import CUSTOMER, DECLINED, ORDER, PAID, PAYMENT, REFUNDED, TOTAL, pounds

REQUESTED = PaymentRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, method="tok_visa")
REFUNDING = RefundRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, charge="ch_1")
CHARGED = Charged(reference="ch_1")
PART = UUID("0197a000-0000-7000-8000-0000000000aa")
OTHER_PART = UUID("0197a000-0000-7000-8000-0000000000bb")
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


def test_declined_is_declined_however_it_is_worded() -> None:
    payment = payment_after(REQUESTED, DECLINED)
    payment.settle(Declined(code="declined", message="The payment was declined."))
    assert payment.outcome == REFUSAL
    assert not payment.recorded


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


def paid(*parts: tuple[UUID, str]) -> Payment:
    """A payment of 37.38 of which these parts are being given back."""
    payment = payment_after(REQUESTED, PAID)
    for refund_id, amount in parts:
        payment.refund_part(refund_id, pounds(amount))
    return payment


def asked_for(payment: Payment) -> list[tuple[UUID | None, int]]:
    return [(event.refund_id, event.amount.minor) for event in payment.recorded if isinstance(event, RefundRequested)]


def test_a_part_is_given_back_once_however_often_it_is_asked_for() -> None:
    payment = paid((PART, "2.55"), (PART, "2.55"))
    payment.record_refund("re_1", PART)
    payment.record_refund("re_1", PART)
    payment.refund_part(PART, pounds("2.55"))
    assert payment.recorded == [
        RefundRequested(payment_id=PAYMENT, order_id=ORDER, amount=pounds("2.55"), charge="ch_1", refund_id=PART),
        PaymentRefunded(payment_id=PAYMENT, order_id=ORDER, amount=pounds("2.55"), reference="re_1", refund_id=PART),
    ]
    assert payment.status is Status.COMPLETED
    assert payment.remaining == pounds("34.83")


def test_parts_may_come_to_all_that_was_paid_and_to_no_more() -> None:
    payment = paid((PART, "30.00"))
    with pytest.raises(Rejected, match=r"Of 37\.38 GBP that were paid 7\.38 GBP remain; 7\.39 GBP is more"):
        payment.refund_part(OTHER_PART, pounds("7.39"))
    payment.refund_part(OTHER_PART, pounds("7.38"))
    states = [payment.status]
    for reference, refund_id in (("re_2", OTHER_PART), ("re_1", PART)):
        payment.record_refund(reference, refund_id)
        states.append(payment.status)
    assert states == [Status.REFUNDING, Status.REFUNDING, Status.REFUNDED]


def test_a_refund_of_everything_is_of_what_the_parts_have_left() -> None:
    payment = paid((PART, "30.00"))
    payment.refund()
    payment.refund()
    assert asked_for(payment) == [(PART, 3000), (None, 738)]
    with pytest.raises(Rejected, match=r"0\.00 GBP remain"):
        payment.refund_part(OTHER_PART, pounds("0.01"))


def test_one_refund_is_not_asked_for_two_amounts() -> None:
    with pytest.raises(Rejected, match=r"is of 2\.55 GBP, not of 5\.10 GBP"):
        paid((PART, "2.55"), (PART, "5.10"))


@pytest.mark.parametrize(("first", "then"), [("It came late", ""), ("", "It came late")])
def test_a_refund_for_goods_and_one_of_somebodys_own_accord_are_two(first: str, then: str) -> None:
    payment = paid()
    payment.refund_part(PART, pounds("2.55"), first)
    payment.record_refund("re_1", PART)
    payment.refund_part(PART, pounds("2.55"), first and "In other words")
    with pytest.raises(Rejected, match="give it an id of its own"):
        payment.refund_part(PART, pounds("2.55"), then)
    payment.refund_part(OTHER_PART, pounds("2.55"), then)
    assert payment.remaining == pounds("32.28")


@pytest.mark.parametrize(
    ("amount", "complaint"),
    [
        (pounds("0"), "A refund is more than 0"),
        (pounds("-1"), "A refund is more than 0"),
        (Money(minor=1, currency="EUR"), "can't be refunded in EUR"),
    ],
)
def test_a_part_is_an_amount_of_what_was_paid(amount: Money, complaint: str) -> None:
    with pytest.raises(Rejected, match=complaint):
        paid().refund_part(PART, amount)


@pytest.mark.parametrize("before", [(), (REQUESTED,), (REQUESTED, DECLINED)])
def test_no_part_is_refunded_of_what_was_not_taken(before: tuple[Any, ...]) -> None:
    with pytest.raises(Rejected, match="can't be refunded, only one that is completed"):
        payment_after(*before).refund_part(PART, pounds("1"))


def test_a_refund_has_one_reference() -> None:
    payment = paid((PART, "2.55"))
    payment.record_refund("re_1", PART)
    with pytest.raises(Rejected, match="has no refund 're_2' to wait for"):
        payment.record_refund("re_2", PART)
    with pytest.raises(Rejected, match="has no refund 're_1' to wait for"):
        payment.record_refund("re_1", OTHER_PART)
