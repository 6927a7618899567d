from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from uuid import UUID

import msgspec

from eventing.contact import Contact, check_contact
from eventing.domain import Aggregate, Rejected
from eventing.money import Money, exponent
from eventing.text import check_text
from orders.commands import LONGEST_REASON, ReturnLine
from orders.events import (
    BuyerForgotten,
    Fulfilment,
    ItemsReturned,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderEvent,
    OrderPlaced,
    OrderShipped,
    OrderStatusChanged,
    ReturnedLine,
)

MOST_LINES = 5_000
MOST_UNITS = 1_000_000  # of one line
LARGEST_TOTAL = 2**63 - 1  # minor units: what a bigint holds
LONGEST_SKU = 64
LONGEST_TEXT = 255


class Status(Enum):
    NEW = "not placed yet"
    PLACED = "placed"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    SHIPPED = "shipped"
    DELIVERED = "delivered"


class Order(Aggregate[OrderEvent], category="order"):
    """A customer's promise to buy, and ours to sell."""

    status = Status.NEW
    placed: OrderPlaced | None = None
    buyer_forgotten = False

    def __init__(self, id: UUID) -> None:
        super().__init__(id)
        self.returns: dict[UUID, ItemsReturned] = {}
        self.returned = Counter[int]()  # units, by the line's number

    def place(
        self,
        customer_id: UUID | None,
        lines: Sequence[Line],
        reference: str,
        payment_method: str,
        contact: Contact | None = None,
        fulfilment: Fulfilment = Fulfilment.ORCHESTRATED,
    ) -> None:
        """Asked twice with the same contents, the order is placed once, and fulfilled in the manner it was first."""
        _check_lines(lines)
        check_text("The reference", reference, LONGEST_TEXT)
        check_text("The payment method", payment_method, LONGEST_TEXT, blank=False)
        if contact is not None:
            check_contact(contact)
        placed = OrderPlaced(
            order_id=self.id,
            customer_id=customer_id,
            reference=reference,
            lines=tuple(lines),
            total=_total(lines),
            payment_method=payment_method,
            contact=contact,
            fulfilment=self.placed.fulfilment if self.placed else fulfilment,
        )
        if self.placed is None:
            self._become(placed)
        elif self.placed != placed:
            raise Rejected(f"Order {self.id} has already been placed with other contents: give the new one its own id.")

    def confirm(self) -> None:
        match self.status:
            case Status.PLACED:
                self._become(OrderConfirmed(order_id=self.id))
            case Status.CONFIRMED | Status.SHIPPED | Status.DELIVERED:
                pass  # asked twice, answered once
            case Status.NEW | Status.CANCELLED:
                raise Rejected(f"An order that is {self.status.value} can't be confirmed.")

    def cancel(self, reason: str) -> None:
        match self.status:
            case Status.PLACED:
                check_text("The reason", reason, LONGEST_REASON, blank=False)
                self._become(OrderCancelled(order_id=self.id, reason=reason))
            case Status.CANCELLED:
                pass
            case Status.NEW | Status.CONFIRMED | Status.SHIPPED | Status.DELIVERED:
                raise Rejected(
                    f"An order that is {self.status.value} can't be cancelled, only one that is placed and not yet "
                    "confirmed."
                )

    def mark_shipped(self) -> None:
        match self.status:
            case Status.CONFIRMED:
                self._become(OrderShipped(order_id=self.id))
            case Status.SHIPPED | Status.DELIVERED:
                pass
            case Status.NEW | Status.PLACED | Status.CANCELLED:
                raise Rejected(f"An order that is {self.status.value} can't be shipped, only one that is confirmed.")

    def mark_delivered(self) -> None:
        match self.status:
            case Status.SHIPPED:
                self._become(OrderDelivered(order_id=self.id))
            case Status.DELIVERED:
                pass
            case Status.NEW | Status.PLACED | Status.CONFIRMED | Status.CANCELLED:
                raise Rejected(f"An order that is {self.status.value} can't be delivered, only one that is shipped.")

    def return_items(self, return_id: UUID, lines: Sequence[ReturnLine], reason: str) -> None:
        """Asked twice with the same contents, the goods come back once. What is refunded is what was paid for them, so
        it's never more than the order's total."""
        check_text("The reason", reason, LONGEST_REASON, blank=False)
        match self.status, self.placed:
            case ((Status.SHIPPED | Status.DELIVERED), OrderPlaced() as placed):
                back = tuple(_lines_back(lines, placed.lines))
            case _:
                raise Rejected(
                    f"Nothing can come back of an order that is {self.status.value}, only of one that is shipped or "
                    "delivered."
                )
        returned = ItemsReturned(
            order_id=self.id,
            return_id=return_id,
            lines=back,
            refund=Money.sum(line.unit_price * line.quantity for line in back),
            reason=reason,
        )
        if known := self.returns.get(return_id):
            if known != returned:
                raise Rejected(f"Return {return_id} has other contents already: give the new one its own id.")
            return
        for line in back:
            ordered, before = placed.lines[line.number - 1].quantity, self.returned[line.number]
            if line.quantity > ordered - before:
                raise Rejected(
                    f"Line {line.number} has {ordered:,} units of {line.sku}, of which {before:,} have come back: "
                    f"{line.quantity:,} more can't."
                )
        self.record(returned)

    def forget_buyer(self) -> None:
        if self.placed is not None and not self.buyer_forgotten:
            self.record(BuyerForgotten(order_id=self.id))

    def _become(self, event: OrderEvent) -> None:
        """Record a change of the status, and a notification of it where somebody asked to be told."""
        self.record(event)
        if self.placed and self.placed.contact and self.placed.contact.email:
            self.record(OrderStatusChanged(order_id=self.id, version=self.version))

    def apply(self, event: OrderEvent) -> None:
        match event:
            case OrderPlaced():
                self.status, self.placed = Status.PLACED, event
            case OrderConfirmed():
                self.status = Status.CONFIRMED
            case OrderCancelled():
                self.status = Status.CANCELLED
            case OrderShipped():
                self.status = Status.SHIPPED
            case OrderDelivered():
                self.status = Status.DELIVERED
            case ItemsReturned():
                self.returns[event.return_id] = event
                for line in event.lines:
                    self.returned[line.number] += line.quantity
            case BuyerForgotten() if self.placed:
                self.placed, self.buyer_forgotten = msgspec.structs.replace(self.placed, contact=None), True
            case OrderStatusChanged() | BuyerForgotten():
                pass


def _check_lines(lines: Sequence[Line]) -> None:
    if not 1 <= len(lines) <= MOST_LINES:
        raise Rejected(f"An order has 1 to {MOST_LINES:,} lines; this one has {len(lines):,}.")
    currency = lines[0].unit_price.currency
    try:
        exponent(currency)
    except ValueError as error:
        raise Rejected(f"Line 1: {currency!r} is not a currency that ISO 4217 gives a minor unit.") from error
    for number, line in enumerate(lines, 1):
        check_text(f"Line {number}: the SKU", line.sku, LONGEST_SKU, blank=False)
        check_text(f"Line {number}: the description", line.description, LONGEST_TEXT)
        if not 1 <= line.quantity <= MOST_UNITS:
            raise Rejected(f"Line {number}: a quantity is 1 to {MOST_UNITS:,}, not {line.quantity:,}.")
        if line.unit_price.currency != currency:
            raise Rejected(
                f"Line {number}: an order is in one currency, and line 1 is in {currency}, "
                f"not {line.unit_price.currency!r}. Place one order for each."
            )
        if line.unit_price.minor < 0:
            raise Rejected(f"Line {number}: a unit price is 0 or more, not {line.unit_price}.")


def _lines_back(lines: Sequence[ReturnLine], ordered: Sequence[Line]) -> Iterator[ReturnedLine]:
    """The lines with what they were ordered as, in the order's own order, so that the same return is always equal."""
    if not lines:
        raise Rejected("A return has at least one line; this one has none.")
    seen = set[int]()
    for line in sorted(lines, key=lambda line: line.number):
        if not 1 <= line.number <= len(ordered):
            raise Rejected(f"The order has no line {line.number}: its lines are numbered from 1 to {len(ordered):,}.")
        if line.number in seen:
            raise Rejected(f"Line {line.number} is given twice: give it once, with all units that came back.")
        if line.quantity < 1:
            raise Rejected(f"Line {line.number}: a quantity is 1 or more, not {line.quantity:,}.")
        seen.add(line.number)
        was = ordered[line.number - 1]
        yield ReturnedLine(number=line.number, sku=was.sku, quantity=line.quantity, unit_price=was.unit_price)


def _total(lines: Sequence[Line]) -> Money:
    total = Money.sum(line.unit_price * line.quantity for line in lines)
    if total.minor > LARGEST_TOTAL:
        raise Rejected(f"The total is {total}; the largest that can be handled is {LARGEST_TOTAL:,} minor units.")
    return total
