"""From what a client asks for to the command that places it: read, on behalf of whom, and at which prices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from uuid_utils.compat import uuid7

from eventing.api import LARGEST_AMOUNT
from eventing.money import Money
from eventing.refusals import Refused
from orders.commands import PlaceOrder
from orders.events import Line
from orders.pricing import NoPrice, PriceChanged, Prices, Wish
from orders.serializers import PLACE, PlaceOrderSerializer, customer_of


class PricesRefused(Refused):
    """Some prices aren't what the customer saw."""

    default_code = "price-changed"

    def within(self, pointer: str) -> PricesRefused:
        """The same of an order that stands at this place of a body."""
        prices = [
            {**price, "pointer": pointer + price["pointer"].removeprefix("#")} for price in self.members["prices"]
        ]
        return PricesRefused(str(self.detail), prices=prices)


def place(request: Request, body: Any) -> PlaceOrder:
    """The command that a body asks for. Raises ValidationError, PermissionDenied, and PricesRefused."""
    asked = read(body)
    return priced(request, asked, prices_for([asked]))


def read(body: Any) -> dict[str, Any]:
    """What is asked for. Raises ValidationError."""
    asked = PlaceOrderSerializer(data=body)
    asked.is_valid(raise_exception=True)
    read: dict[str, Any] = asked.validated_data
    return read


def prices_for(orders: Sequence[dict[str, Any]]) -> Prices:
    """The prices of all that several orders ask for."""
    return Prices(
        (line["sku"] for asked in orders for line in asked["lines"]),
        (asked["order_id"] for asked in orders if "order_id" in asked),
    )


def priced(request: Request, asked: dict[str, Any], prices: Prices) -> PlaceOrder:
    """The command, with every line at its price. Raises as `place` does."""
    return PlaceOrder(
        order_id=asked.get("order_id") or uuid7(),
        customer_id=_customer(request, asked),
        lines=_in_one_currency(_lines(asked, prices)),
        reference=asked["reference"],
        payment_method=asked["payment_method"],
        contact=asked.get("contact"),
    )


def _customer(request: Request, asked: dict[str, Any]) -> UUID | None:
    own = customer_of(request)
    if request.user.has_perm(PLACE):
        customer: UUID | None = asked.get("customer_id")
        return customer
    if asked.get("customer_id", own) != own:
        raise PermissionDenied(f"Placing orders for others takes the permission {PLACE}.")
    return own


def _lines(asked: dict[str, Any], prices: Prices) -> tuple[Line, ...]:
    wishes = [
        Wish(line["sku"], line["description"], line["quantity"], line.get("unit_price")) for line in asked["lines"]
    ]
    try:
        return prices.price(wishes, asked.get("order_id"))
    except NoPrice as missing:
        unknown: dict[Any, Any] = {
            number: {"sku": ["This article isn't listed, so it has no price."]}
            for number, wish in enumerate(wishes)
            if wish.sku in missing.skus
        }
        raise ValidationError({"lines": unknown}) from missing
    except PriceChanged as changed:
        raise PricesRefused(
            "Not every price is what the customer saw.",
            prices=[
                {
                    "pointer": f"#/lines/{each.number - 1}/unit_price",
                    "sku": each.sku,
                    "seen": _amount(each.seen),
                    "current": _amount(each.current),
                }
                for each in changed.changes
            ],
        ) from changed


def _in_one_currency(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Raises ValidationError where they aren't, or where their total can't be told exactly."""
    currency = lines[0].unit_price.currency
    others: dict[Any, Any] = {
        number: {
            "sku": [f"It is sold in {line.unit_price.currency}, and an order is in one currency, here {currency}."]
        }
        for number, line in enumerate(lines)
        if line.unit_price.currency != currency
    }
    if others:
        raise ValidationError({"lines": others})
    total = Money.sum(line.unit_price * line.quantity for line in lines)
    if total.minor > LARGEST_AMOUNT:
        raise ValidationError({"lines": [f"They come to {total}; {LARGEST_AMOUNT} minor units is the most."]})
    return lines


def _amount(money: Money) -> dict[str, Any]:
    return {"amount": money.minor, "currency": money.currency}
