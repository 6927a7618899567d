from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.money import CurrencyMismatch, Money, exponent

POUND = Money(minor=100, currency="GBP")
DOLLAR = Money(minor=100, currency="USD")


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("2.55", "GBP", 255),
        ("-11062.06", "GBP", -1_106_206),
        ("0", "GBP", 0),
        ("0.1", "GBP", 10),
        ("700", "JPY", 700),
        ("1.234", "BHD", 1234),
        ("1E+2", "GBP", 10_000),
    ],
)
def test_a_decimal_text_is_read_in_the_currencys_smallest_unit(text: str, currency: str, minor: int) -> None:
    assert Money.parse(text, currency) == Money(minor=minor, currency=currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("2.555", "GBP"),
        ("0.5", "JPY"),
        ("", "GBP"),
        ("two", "GBP"),
        ("NaN", "GBP"),
        ("Infinity", "GBP"),
        ("1e999999", "GBP"),
        ("1" * 31, "GBP"),
        ("1" * 29 + ".01", "GBP"),
        ("1", "ABC"),
        ("1", "gbp"),
        ("1", "XAU"),
    ],
)
def test_what_is_no_exact_amount_of_a_currency_is_an_error(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=currency):
        Money.parse(text, currency)


@given(st.integers(-(10**26), 10**26))
def test_an_amount_written_out_and_read_again_is_the_same(minor: int) -> None:
    amount = Money(minor=minor, currency="GBP")
    text, currency = str(amount).split()
    assert Money.parse(text, currency) == amount


@given(st.lists(st.integers(), min_size=1))
def test_a_total_is_exact(amounts: list[int]) -> None:
    assert Money.sum(Money(minor=each, currency="GBP") for each in amounts).minor == sum(amounts)


def test_amounts_of_one_currency_can_be_added_subtracted_multiplied_and_compared() -> None:
    assert POUND + POUND == POUND * 2
    assert POUND - POUND == POUND * 0
    assert POUND < POUND * 2
    assert POUND <= POUND
    assert max(POUND * 3, POUND) == POUND * 3


def test_amounts_of_two_currencies_are_neither_added_nor_compared() -> None:
    with pytest.raises(CurrencyMismatch):
        POUND + DOLLAR
    with pytest.raises(CurrencyMismatch):
        POUND - DOLLAR
    with pytest.raises(CurrencyMismatch):
        assert POUND < DOLLAR
    with pytest.raises(CurrencyMismatch):
        Money.sum([POUND, DOLLAR])
    assert POUND != DOLLAR


def test_an_amount_is_shown_with_the_places_of_its_currency() -> None:
    assert str(POUND * 0) == "0.00 GBP"
    assert str(Money(minor=-5, currency="GBP")) == "-0.05 GBP"
    assert str(Money(minor=700, currency="JPY")) == "700 JPY"
    assert exponent("BHD") == 3
