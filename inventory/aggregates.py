from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from uuid import UUID

from eventing.domain import Aggregate, Rejected
from eventing.money import Money, exponent
from eventing.text import check_text
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationCommitted,
    ReservationEvent,
    ReservationLine,
    ReservationReleased,
    Shortage,
    StockAdjusted,
    StockEvent,
    StockItemListed,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShipped,
)

MOST_ON_HAND = 1_000_000_000_000
LONGEST_SKU = 64
LONGEST_TEXT = 255
LONGEST_REASON = 1_000
HIGHEST_PRICE = 2**63 - 1  # minor units: what a bigint holds


class StockItem(Aggregate[StockEvent, str], category="stock", snapshot_every=100):
    """An article by its SKU: what is in the house, and how much of that is promised to orders."""

    description = ""
    list_price: Money | None = None
    on_hand = 0
    reserved = 0
    references: frozenset[str] = frozenset()  # of deliveries
    adjustments: frozenset[str] = frozenset()  # their references: a delivery is counted, and both may have its name

    @property
    def available(self) -> int:
        """Units that aren't promised to anybody."""
        return self.on_hand - self.reserved

    def list(self, description: str, list_price: Money) -> None:
        """Asked again with the same contents, nothing changes."""
        check_text("The SKU", self.id, LONGEST_SKU, blank=False)
        check_text("The description", description, LONGEST_TEXT)
        try:
            exponent(list_price.currency)
        except ValueError as error:
            raise Rejected(f"{list_price.currency!r} is not a currency that ISO 4217 gives a minor unit.") from error
        if not 0 <= list_price.minor <= HIGHEST_PRICE:
            raise Rejected(f"A list price is 0 to {HIGHEST_PRICE:,} minor units, not {list_price.minor:,}.")
        if (self.description, self.list_price) != (description, list_price):
            self.record(StockItemListed(sku=self.id, description=description, list_price=list_price))

    def set_price(self, list_price: Money) -> None:
        if self.list_price is None:
            raise Rejected(f"SKU {self.id!r} isn't listed. List it before you set its price.")
        self.list(self.description, list_price)

    def receive(self, quantity: int, reference: str) -> None:
        if self.list_price is None:
            raise Rejected(f"SKU {self.id!r} isn't listed. List it before you receive stock of it.")
        check_text("The reference", reference, LONGEST_TEXT)
        if reference and reference in self.references:
            return  # asked twice, answered once
        if quantity < 1:
            raise Rejected(f"A quantity is 1 or more, not {quantity:,}.")
        if self.on_hand + quantity > MOST_ON_HAND:
            raise Rejected(f"SKU {self.id!r} would have more than {MOST_ON_HAND:,} units on hand.")
        self.record(StockReceived(sku=self.id, quantity=quantity, reference=reference))

    def adjust(self, change: int, reason: str, reference: str) -> None:
        """What orders were promised has to be there: release their reservations before it's written off."""
        if self.list_price is None:
            raise Rejected(f"SKU {self.id!r} isn't listed, so there's nothing to adjust.")
        check_text("The reason", reason, LONGEST_REASON, blank=False)
        check_text("The reference", reference, LONGEST_TEXT)
        if reference and reference in self.adjustments:
            return  # asked twice, answered once
        if change == 0:
            raise Rejected("An adjustment adds units or takes some away: it isn't 0.")
        if -change > self.available:
            raise Rejected(
                f"SKU {self.id!r} has {self.on_hand:,} units on hand, of which {self.reserved:,} are promised to "
                f"orders: {-change:,} can't be taken away."
            )
        if self.on_hand + change > MOST_ON_HAND:
            raise Rejected(f"SKU {self.id!r} would have more than {MOST_ON_HAND:,} units on hand.")
        self.record(StockAdjusted(sku=self.id, change=change, reason=reason, reference=reference))

    def reserve(self, order_id: UUID, quantity: int) -> None:
        if quantity > self.available:
            raise Rejected(f"SKU {self.id!r} has {self.available:,} units available, not {quantity:,}.")
        self.record(StockReserved(sku=self.id, order_id=order_id, quantity=quantity))

    def release(self, order_id: UUID, quantity: int) -> None:
        self.record(StockReleased(sku=self.id, order_id=order_id, quantity=quantity))

    def ship(self, order_id: UUID, quantity: int) -> None:
        self.record(StockShipped(sku=self.id, order_id=order_id, quantity=quantity))

    def apply(self, event: StockEvent) -> None:
        match event:
            case StockItemListed():
                self.description, self.list_price = event.description, event.list_price
            case StockReceived():
                self.on_hand += event.quantity
                self.references |= {event.reference} - {""}
            case StockAdjusted():
                self.on_hand += event.change
                self.adjustments |= {event.reference} - {""}
            case StockReserved():
                self.reserved += event.quantity
            case StockReleased():
                self.reserved -= event.quantity
            case StockShipped():
                self.on_hand -= event.quantity
                self.reserved -= event.quantity


class Status(Enum):
    NEW = "not reserved yet"
    RESERVED = "reserved"
    FAILED = "failed"
    RELEASED = "released"
    COMMITTED = "committed"


class Reservation(Aggregate[ReservationEvent], category="reservation"):
    """What is held for one order: every article that it wants, or none. An order is answered once."""

    status = Status.NEW
    lines: tuple[ReservationLine, ...] = ()

    @property
    def skus(self) -> list[str]:
        """The articles that are held."""
        return [line.sku for line in self.lines]

    def reserve(self, lines: Sequence[ReservationLine], stock: Mapping[str, StockItem]) -> None:
        """Hold all of it, or none. Once there was an answer, or the order was given up, nothing changes."""
        if self.status is not Status.NEW:
            return
        if not lines:
            raise Rejected("A reservation needs at least one line.")
        wanted = Counter[str]()
        for number, line in enumerate(lines, 1):
            if line.quantity < 1:
                raise Rejected(f"Line {number}: a quantity is 1 or more, not {line.quantity:,}.")
            wanted[line.sku] += line.quantity
        shortages = tuple(
            Shortage(sku=sku, wanted=quantity, available=stock[sku].available)
            for sku, quantity in wanted.items()
            if quantity > stock[sku].available
        )
        if shortages:
            self.record(InventoryReservationFailed(order_id=self.id, shortages=shortages))
            return
        for sku, quantity in wanted.items():
            stock[sku].reserve(self.id, quantity)
        held = tuple(ReservationLine(sku=sku, quantity=quantity) for sku, quantity in wanted.items())
        self.record(InventoryReserved(order_id=self.id, lines=held))

    def release(self, stock: Mapping[str, StockItem]) -> None:
        """Hold nothing, now or later: a request to reserve that comes after this one holds nothing either."""
        match self.status:
            case Status.NEW | Status.RESERVED:
                for line in self.lines:
                    stock[line.sku].release(self.id, line.quantity)
                self.record(ReservationReleased(order_id=self.id))
            case Status.FAILED | Status.RELEASED:
                pass  # nothing is held
            case Status.COMMITTED:
                raise Rejected(f"What was reserved for order {self.id} has been shipped, and can't be released.")

    def commit(self, stock: Mapping[str, StockItem]) -> None:
        """Ship what is held."""
        match self.status:
            case Status.RESERVED:
                for line in self.lines:
                    stock[line.sku].ship(self.id, line.quantity)
                self.record(ReservationCommitted(order_id=self.id))
            case Status.COMMITTED:
                pass  # asked twice, answered once
            case Status.NEW | Status.FAILED | Status.RELEASED:
                raise Rejected(f"Nothing is reserved for order {self.id}, so nothing can be shipped.")

    def apply(self, event: ReservationEvent) -> None:
        match event:
            case InventoryReserved():
                self.status, self.lines = Status.RESERVED, event.lines
            case InventoryReservationFailed():
                self.status = Status.FAILED
            case ReservationReleased():
                self.status = Status.RELEASED
            case ReservationCommitted():
                self.status = Status.COMMITTED
