"""What articles cost, by our own copy of inventory's list: an order is priced while inventory is down, or busy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from eventing import store
from eventing.money import Money
from orders.events import Line, OrderPlaced
from orders.models import Article


class NoPrice(LookupError):
    """Articles have no price here: they aren't listed, or were listed a moment ago."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(set(skus))
        super().__init__(
            f"There's no price for {', '.join(self.skus)}: list it in inventory, or give the price agreed on."
        )


class Wish(NamedTuple):
    """A line that a customer wants, and the price that the customer saw, if it's told."""

    sku: str
    description: str
    quantity: int
    seen: Money | None = None


class Changed(NamedTuple):
    """A price that isn't what the customer saw: of the line of this number, from 1."""

    number: int
    sku: str
    seen: Money
    current: Money


class PriceChanged(Exception):
    """Some prices aren't what the customer saw."""

    def __init__(self, changes: Sequence[Changed]) -> None:
        self.changes = changes
        super().__init__("; ".join(f"{each.sku} is {each.current} now, not {each.seen}" for each in changes))


class Prices:
    """The prices of articles; and what was agreed on in orders that were placed before, by their events: one which is
    sent again is the same order, whatever the prices are by then and however far behind a read model is. Two queries,
    however many orders there are."""

    def __init__(self, skus: Iterable[str], order_ids: Iterable[UUID]) -> None:
        self._listed = present_prices(skus)
        known = list(order_ids)
        placed = (record.event for record in (store.beginnings("order", known) if known else ()))
        self._agreed = {
            (event.order_id, number, line.sku): line.unit_price
            for event in placed
            if isinstance(event, OrderPlaced)
            for number, line in enumerate(event.lines, start=1)
        }

    def price(self, wishes: Sequence[Wish], order_id: UUID | None) -> tuple[Line, ...]:
        """The lines of an order at their prices. Raises NoPrice, and PriceChanged."""
        prices = [
            self._agreed.get((order_id, number, wish.sku)) if order_id else None
            for number, wish in enumerate(wishes, start=1)
        ]
        found = [price or self._listed.get(wish.sku) for price, wish in zip(prices, wishes, strict=True)]
        if missing := [wish.sku for price, wish in zip(found, wishes, strict=True) if price is None]:
            raise NoPrice(missing)
        lines = tuple(
            Line(sku=wish.sku, description=wish.description, quantity=wish.quantity, unit_price=price)
            for price, wish in zip(found, wishes, strict=True)
            if price is not None
        )
        if changes := list(_changes(wishes, lines)):
            raise PriceChanged(changes)
        return lines


def _changes(wishes: Sequence[Wish], lines: Sequence[Line]) -> Iterable[Changed]:
    for number, (wish, line) in enumerate(zip(wishes, lines, strict=True), start=1):
        if wish.seen is not None and wish.seen != line.unit_price:
            yield Changed(number, wish.sku, wish.seen, line.unit_price)


def present_prices(skus: Iterable[str]) -> Mapping[str, Money]:
    """The prices of those articles that have one, with one query."""
    return {
        article.sku: Money(minor=article.price_minor, currency=article.currency)
        for article in Article.objects.filter(sku__in=set(skus))
    }


def list_prices(skus: Iterable[str]) -> dict[str, Money]:
    """The price of each article, with one query. Raises NoPrice, which names all that have none."""
    wanted = set(skus)
    prices = dict(present_prices(wanted))
    if missing := wanted - prices.keys():
        raise NoPrice(missing)
    return prices
