"""What happens to stock, article by article, and to the reservations of orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from eventing.domain import Event, Value
from eventing.money import Money


class ReservationLine(Value):
    """So many units of an article for an order."""

    sku: str
    quantity: int


def units_of_each_article(lines: Iterable[tuple[str, int]]) -> tuple[ReservationLine, ...]:
    """What lines of a SKU and a quantity come to, one line an article."""
    units = Counter[str]()
    for sku, quantity in lines:
        units[sku] += quantity
    return tuple(ReservationLine(sku=sku, quantity=quantity) for sku, quantity in units.items())


class Shortage(Value):
    """An article of which fewer units are available than an order wants."""

    sku: str
    wanted: int
    available: int


class StockItemListed(Event, name="inventory.stock_item_listed"):
    """The article is known under this description and price, for the first time or from now on: all that others need
    to keep a copy of their own."""

    sku: str
    description: str
    list_price: Money


class StockReceived(Event, name="inventory.stock_received"):
    """``reference`` names the delivery; empty when it has no name."""

    sku: str
    quantity: int
    reference: str


class StockAdjusted(Event, name="inventory.stock_adjusted"):
    """Somebody counted, and found more or fewer: ``change`` is signed. ``reference`` names the count; empty when it has
    no name."""

    sku: str
    change: int
    reason: str
    reference: str


class StockReserved(Event, name="inventory.stock_reserved"):
    sku: str
    order_id: UUID
    quantity: int


class StockReleased(Event, name="inventory.stock_released"):
    sku: str
    order_id: UUID
    quantity: int


class StockShipped(Event, name="inventory.stock_shipped"):
    sku: str
    order_id: UUID
    quantity: int


class InventoryReserved(Event, name="inventory.inventory_reserved"):
    """All of it, one line an article."""

    order_id: UUID
    lines: tuple[ReservationLine, ...]


class InventoryReservationFailed(Event, name="inventory.inventory_reservation_failed"):
    """Nothing is reserved, because of these."""

    order_id: UUID
    shortages: tuple[Shortage, ...]


class ReservationReleased(Event, name="inventory.reservation_released"):
    """Nothing is reserved any more, and nothing will be."""

    order_id: UUID


class ReservationCommitted(Event, name="inventory.reservation_committed"):
    """All of it has left the house."""

    order_id: UUID


StockEvent = StockItemListed | StockReceived | StockAdjusted | StockReserved | StockReleased | StockShipped
ReservationEvent = InventoryReserved | InventoryReservationFailed | ReservationReleased | ReservationCommitted
