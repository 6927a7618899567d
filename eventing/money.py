"""Money: integer minor units and an ISO 4217 currency. Arithmetic is exact, or it is an error."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import cache
from typing import Self

from iso4217 import Currency

from eventing.domain import Value

DIGITS = 30  # more than any amount has: what is longer is no amount, and nothing is ever rounded
EXACT = Context(prec=DIGITS, Emax=DIGITS, traps=[Inexact, InvalidOperation, Overflow])


class CurrencyMismatch(ValueError):
    """Amounts of two currencies can't be added or compared."""


@cache
def exponent(currency: str) -> int:
    """Decimal places of a currency: 2 for GBP, 0 for JPY. Raises ValueError for what ISO 4217 doesn't list."""
    places = Currency(currency).exponent
    if places is None:
        raise ValueError(f"{currency} has no minor unit.")
    return places


class Money(Value):
    """An amount in the currency's smallest unit: ``Money(minor=255, currency="GBP")`` is £2.55."""

    currency: str
    minor: int

    @classmethod
    def parse(cls, text: str, currency: str) -> Self:
        """The amount that a decimal text such as ``"2.55"`` names. Raises ValueError when it isn't exact."""
        try:
            scaled = EXACT.scaleb(Decimal(text), exponent(currency))
            minor = int(scaled)
        except (ArithmeticError, ValueError) as error:
            raise ValueError(f"{text!r} is not an amount of {currency}.") from error
        if scaled != minor:
            raise ValueError(f"{text!r} has more decimal places than {currency} has.")
        return cls(minor=minor, currency=currency)

    @classmethod
    def sum(cls, amounts: Iterable[Money]) -> Money:
        """The total of one or more amounts of one currency."""
        first, *rest = amounts
        total = first
        for amount in rest:
            total = total + amount
        return total

    def __add__(self, other: Money) -> Money:
        return Money(minor=self.minor + self._same(other), currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(minor=self.minor - self._same(other), currency=self.currency)

    def __mul__(self, times: int) -> Money:
        return Money(minor=self.minor * times, currency=self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other)

    def __str__(self) -> str:
        return f"{EXACT.scaleb(Decimal(self.minor), -exponent(self.currency))} {self.currency}"

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} can't be added or compared.")
        return other.minor
