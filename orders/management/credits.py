"""Which orders Online Retail's credit invoices are about. They don't say, so it's found out.

A credited line is about units that its customer was sold before, of that article and at that price: those of the
latest order that still holds all of them; where none does, those of the latest that holds some, and so on to older
ones. What was sold and is in no order (postage, gifts) is found in the same way, but it can't come back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import chain, groupby
from typing import NamedTuple
from uuid import UUID

from orders.commands import ReturnLine
from orders.management.naming import order_of, return_of
from orders.management.online_retail import Invoice, Line, LineClass, RetailFile, is_product, pence
from orders.models import ReturnedLine, Status


class Reason(StrEnum):
    """Why units of a credit don't come back."""

    NO_CUSTOMER = "no_customer"
    NO_GOODS = "no_goods"
    COST_NOTHING = "cost_nothing"
    NEVER_SOLD = "never_sold"
    OTHER_PRICE = "other_price"
    MORE_THAN_SOLD = "more_than_sold"
    RETURNED_BEFORE = "returned_before"
    ORDER_CANCELLED = "order_cancelled"
    NOT_IMPORTED = "not_imported"
    REFUSED = "refused"


@dataclass(slots=True)
class Sold:
    """Units that a customer was sold with one line; ``left`` haven't come back. ``why_not`` they can't."""

    order_id: UUID
    number: int
    unit_price: Decimal
    quantity: int
    left: int
    why_not: Reason | None = None


class Portion(NamedTuple):
    """Units that come back of one line of an order."""

    order_id: UUID
    number: int
    quantity: int


@dataclass(slots=True)
class CreditLine:
    """A credited line: what of it comes back, and why the rest doesn't. ``found`` units are in some sale of the file,
    be it an order or not."""

    sku: str
    unit_price: Decimal
    quantity: int
    portions: list[Portion] = field(default_factory=list)
    missing: Counter[Reason] = field(default_factory=Counter)
    found: int = 0

    @property
    def returned(self) -> int:
        """Units that come back."""
        return sum(portion.quantity for portion in self.portions)

    def pence(self, units: int) -> int:
        """What so many of these units cost."""
        return pence(units, self.unit_price)

    def refuse(self) -> None:
        """Nothing of it comes back after all."""
        if self.portions:
            self.missing[Reason.REFUSED] = self.returned
            self.portions = []


@dataclass(slots=True)
class Credit:
    """A credit invoice. ``registered`` says whether its returns are there already."""

    number: str
    occurred_at: datetime
    lines: tuple[CreditLine, ...]
    registered: bool

    @property
    def returns(self) -> dict[UUID, tuple[ReturnLine, ...]]:
        """What comes back of each order."""
        units: dict[UUID, Counter[int]] = defaultdict(Counter)
        for portion in chain.from_iterable(line.portions for line in self.lines):
            units[portion.order_id][portion.number] += portion.quantity
        return {
            order_id: tuple(ReturnLine(number=number, quantity=quantity) for number, quantity in sorted(lines.items()))
            for order_id, lines in units.items()
        }


class Matching:
    """Walks a file and finds for each credit the orders that it's about.

    ``states`` are of the orders that are there, ``returned`` is all that has come back of them already.
    """

    def __init__(self, retail: RetailFile, states: Mapping[UUID, Status], returned: Iterable[ReturnedLine]) -> None:
        self.retail, self.states = retail, states
        self.placed_at: dict[UUID, datetime] = {}
        self._back = Counter[tuple[UUID, int]]()
        self._registered: dict[UUID, list[ReturnedLine]] = defaultdict(list)
        for line in returned:
            self._back[line.order_id, line.number] += line.quantity
            self._registered[line.return_id].append(line)
        self._credited = {
            (invoice.customer, line.sku)
            for invoice in retail.invoices()
            if is_credit(invoice)
            for line in invoice.lines
        }
        self._sold: dict[tuple[str | None, str], list[Sold]] = defaultdict(list)

    def credits(self) -> Iterator[Credit]:
        """Every credit invoice, in the file's order."""
        for invoice in self.retail.invoices():
            if is_credit(invoice):
                yield self._match(invoice)
            elif invoice.customer and invoice.lines[0].line_class is not LineClass.ADJUSTMENT:
                self._remember(invoice)

    def _remember(self, invoice: Invoice) -> None:
        order_id, number = order_of(invoice.number), 0
        self.placed_at[order_id] = invoice.occurred_at
        for line in invoice.lines:
            number += line.line_class is LineClass.PRODUCT_SALE
            if line.quantity > 0 and (invoice.customer, line.sku) in self._credited:
                why_not = self._why_not(order_id, line)
                left = line.quantity - (0 if why_not else self._back[order_id, number])
                self._sold[invoice.customer, line.sku].append(
                    Sold(order_id, number, line.unit_price, line.quantity, left, why_not)
                )

    def _why_not(self, order_id: UUID, line: Line) -> Reason | None:
        match line.line_class, self.states.get(order_id):
            case LineClass.PRODUCT_SALE, None:
                return Reason.NOT_IMPORTED
            case LineClass.PRODUCT_SALE, Status.CANCELLED:
                return Reason.ORDER_CANCELLED
            case LineClass.PRODUCT_SALE, _:
                return None
            case LineClass.ZERO_PRICE, _:
                return Reason.COST_NOTHING
            case _:
                return Reason.NO_GOODS

    def _match(self, invoice: Invoice) -> Credit:
        """What is registered stays as it is; and of a credit of which something is, no more can be."""
        registered: dict[tuple[str, Decimal], list[Sold]] = defaultdict(list)
        for back in self._registered[return_of(invoice.number)]:
            price = Decimal(back.unit_price_minor) / 100
            registered[back.sku, price].append(Sold(back.order_id, back.number, price, back.quantity, back.quantity))
        lines = tuple(
            self._match_line(invoice.customer, line, registered[line.sku, line.unit_price] if registered else None)
            for line in invoice.lines
        )
        return Credit(invoice.number, invoice.occurred_at, lines, registered=bool(registered))

    def _match_line(self, customer: str | None, line: Line, registered: Sequence[Sold] | None) -> CreditLine:
        credited = CreditLine(line.sku, line.unit_price, -line.quantity)
        if customer is None:
            credited.missing[Reason.NO_CUSTOMER] = credited.quantity
            return credited
        ever = self._sold[customer, line.sku]
        sold = [each for each in ever if each.unit_price == line.unit_price]
        possible = [each for each in sold if each.why_not is None] if registered is None else registered
        credited.portions = list(_take(possible, credited.quantity))
        units = credited.quantity - credited.returned
        for each in reversed(sold):
            if each.why_not and (taken := min(units, each.left)):
                each.left, units = each.left - taken, units - taken
                credited.missing[each.why_not] += taken
        credited.found = credited.quantity - units
        if units:
            credited.missing[_why_not_found(line.sku, credited.quantity, sold, ever)] += units
        return credited


def is_credit(invoice: Invoice) -> bool:
    """Whether an invoice gives money back instead of asking for it."""
    return invoice.lines[0].line_class is LineClass.CANCELLATION


def _take(sold: Sequence[Sold], units: int) -> Iterator[Portion]:
    """Units of the latest order that has them all, or else of the latest that have some."""
    orders = [list(lines) for _, lines in groupby(reversed(sold), key=lambda each: each.order_id)]
    whole = next((lines for lines in orders if sum(each.left for each in lines) >= units), None)
    for each in whole or chain.from_iterable(orders):
        if taken := min(units, each.left):
            each.left, units = each.left - taken, units - taken
            yield Portion(each.order_id, each.number, taken)


def _why_not_found(sku: str, asked: int, sold: Sequence[Sold], ever: Sequence[Sold]) -> Reason:
    """Why units are in no sale: ``sold`` is what there was at this price, ``ever`` at any."""
    if not is_product(sku):
        return Reason.NO_GOODS
    if not sold:
        return Reason.OTHER_PRICE if ever else Reason.NEVER_SOLD
    return Reason.MORE_THAN_SOLD if sum(each.quantity for each in sold) < asked else Reason.RETURNED_BEFORE
