"""What articles cost, by our own copy of inventory's list: an order is priced while inventory is down, or busy."""

from __future__ import annotations

from collections.abc import Iterable

from eventing.money import Money
from orders.models import Article


class NoPrice(LookupError):
    """Articles have no price here: they aren't listed, or were listed a moment ago."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(skus)
        super().__init__(
            f"There's no price for {', '.join(self.skus)}: list it in inventory, or give the price agreed on."
        )


def list_prices(skus: Iterable[str]) -> dict[str, Money]:
    """The price of each article, with one query. Raises NoPrice, which names all that have none."""
    wanted = set(skus)
    prices = {
        article.sku: Money(minor=article.price_minor, currency=article.currency)
        for article in Article.objects.filter(sku__in=wanted)
    }
    if missing := wanted - prices.keys():
        raise NoPrice(missing)
    return prices
