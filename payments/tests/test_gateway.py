from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import TypeVar

import pytest
from django.core.management import call_command
from django.db import connection

from eventing.money import Money
from payments.commands import Charged, Declined
from payments.gateway import GatewayDown, GatewayRefused, OutcomeUnknown
from payments.gateway.simulated import SimulatedGateway
from payments.models import GatewayEntry
from tests.builders import TOTAL, pounds

pytestmark = pytest.mark.django_db
T = TypeVar("T")

NOW = datetime.now(UTC)
CHARGED = Charged(reference="ch_key")


def charge(method: str = "tok_visa", *, key: str = "key") -> Charged | Declined:
    return SimulatedGateway().charge(TOTAL, method, idempotency_key=key, requested_at=NOW)


def refund(amount: Money = TOTAL, *, key: str = "back") -> str:
    return SimulatedGateway().refund("ch_key", amount, idempotency_key=key, requested_at=NOW)


def at_once(function: Callable[[], T], times: int) -> list[T]:
    """What a function returns to several threads that call it together."""
    barrier = Barrier(times)

    def call(_: int) -> T:
        try:
            connection.ensure_connection()
            barrier.wait()
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(call, range(times)))


def test_a_charge_is_in_the_ledger() -> None:
    assert charge() == CHARGED
    entry = GatewayEntry.objects.get()
    assert (entry.key, entry.kind, entry.outcome, entry.reference) == ("key", "charge", "succeeded", "ch_key")
    assert (entry.amount_minor, entry.currency, entry.asks) == (3738, "GBP", 1)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("tok_chargeDeclined", "card_declined"),
        ("tok_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("tok_nonsense", "invalid_payment_method"),
    ],
)
def test_a_bad_token_is_declined_with_the_reason_and_stays_declined(token: str, code: str) -> None:
    first, again = charge(token), charge(token)
    assert isinstance(first, Declined)
    assert (first.code, first) == (code, again)
    assert GatewayEntry.objects.get().outcome == "declined"


def test_the_same_key_again_gets_the_same_answer_and_takes_nothing_more() -> None:
    assert charge() == charge()
    assert GatewayEntry.objects.get().asks == 2


def test_a_key_is_good_for_one_request() -> None:
    charge()
    with pytest.raises(GatewayRefused, match="was used for another request"):
        SimulatedGateway().charge(pounds("1"), "tok_visa", idempotency_key="key", requested_at=NOW)
    with pytest.raises(GatewayRefused, match="was used for another request"):
        charge("tok_delay")
    assert GatewayEntry.objects.get().amount_minor == 3738


def test_a_charge_whose_answer_is_lost_was_taken_once_and_says_so_when_asked_again() -> None:
    with pytest.raises(OutcomeUnknown):
        charge("tok_timeout")
    assert GatewayEntry.objects.get().outcome == "succeeded"
    assert charge("tok_timeout") == CHARGED
    assert GatewayEntry.objects.count() == 1


def test_a_charge_that_never_arrived_was_not_taken_until_it_is_sent_again() -> None:
    with pytest.raises(OutcomeUnknown):
        charge("tok_timeout_lost")
    assert GatewayEntry.objects.get().outcome == "lost"
    assert charge("tok_timeout_lost") == CHARGED
    assert GatewayEntry.objects.get().outcome == "succeeded"


def test_a_slow_charge_is_answered_in_the_end() -> None:
    assert charge("tok_delay") == CHARGED


def test_a_charge_is_given_back_once() -> None:
    charge()
    assert refund() == refund() == "re_back"
    entry = GatewayEntry.objects.get(kind="refund")
    assert (entry.amount_minor, entry.charge, entry.asks) == (3738, "ch_key", 2)
    with pytest.raises(GatewayRefused):
        refund(key="another")


def test_what_was_not_taken_is_not_given_back() -> None:
    with pytest.raises(GatewayRefused, match="There's no charge 'ch_key'"):
        refund()
    with pytest.raises(OutcomeUnknown):
        charge("tok_timeout_lost")
    with pytest.raises(GatewayRefused):
        refund()


def test_no_more_is_given_back_than_was_taken() -> None:
    charge()
    with pytest.raises(GatewayRefused):
        refund(TOTAL + TOTAL)


def test_a_charge_is_given_back_in_parts_until_nothing_is_left() -> None:
    charge()
    assert refund(pounds("30.00"), key="a") == refund(pounds("30.00"), key="a") == "re_a"
    with pytest.raises(GatewayRefused, match=r"no charge 'ch_key' of which 7\.39 GBP is left"):
        refund(pounds("7.39"), key="b")
    assert refund(pounds("7.38"), key="b") == "re_b"
    assert refund(pounds("30.00"), key="a") == "re_a"
    with pytest.raises(GatewayRefused):
        refund(pounds("0.01"), key="c")


@pytest.mark.parametrize("amount", [pounds("0"), pounds("-1"), Money(minor=1, currency="EUR")])
def test_a_part_is_an_amount_of_what_was_taken(amount: Money) -> None:
    charge()
    with pytest.raises(GatewayRefused):
        refund(amount)


def test_a_key_is_good_for_one_part() -> None:
    charge()
    refund(pounds("1"))
    with pytest.raises(GatewayRefused):
        refund(pounds("2"))


def test_a_key_of_a_charge_is_no_key_for_a_refund() -> None:
    charge()
    with pytest.raises(GatewayRefused):
        refund(key="key")


@pytest.mark.django_db(transaction=True)
def test_the_same_key_from_many_at_once_is_one_charge_with_one_answer() -> None:
    assert at_once(charge, 8) == [CHARGED] * 8
    assert at_once(refund, 8) == ["re_back"] * 8
    assert [entry.asks for entry in GatewayEntry.objects.all()] == [8, 8]


@pytest.mark.django_db(transaction=True)
def test_many_parts_at_once_never_come_to_more_than_was_taken() -> None:
    charge()
    keys = iter("abcdefgh")

    def give_a_third_back() -> bool:
        try:
            return bool(refund(pounds("12.46"), key=next(keys)))
        except GatewayRefused:
            return False

    assert sum(at_once(give_a_third_back, 8)) == 3
    assert sum(entry.amount_minor for entry in GatewayEntry.objects.filter(kind="refund")) == TOTAL.minor


def test_while_the_gateway_is_out_of_order_it_answers_nobody_and_has_done_nothing() -> None:
    call_command("simulated_gateway", "down", message="Closed for stocktaking.")
    with pytest.raises(GatewayDown, match=r"Closed for stocktaking\."):
        charge()
    assert not GatewayEntry.objects.exists()
    call_command("simulated_gateway", "up")
    assert charge() == CHARGED
    call_command("simulated_gateway", "down")
    with pytest.raises(GatewayDown):
        refund()
    assert GatewayEntry.objects.count() == 1
