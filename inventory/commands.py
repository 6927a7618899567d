"""What can be asked of inventory."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Command
from eventing.money import Money
from inventory.events import ReservationLine


class ListStockItem(Command):
    """Also changes the description and price of an article that is listed already."""

    sku: str
    description: str
    list_price: Money


class ReceiveStock(Command):
    """With a ``reference``, the same delivery is received once, however often it's reported."""

    sku: str
    quantity: int
    reference: str = ""


class SetListPrice(Command):
    """Of an article that is listed."""

    sku: str
    list_price: Money


class AdjustStock(Command):
    """There are more or fewer units than the books say, and why; ``change`` is signed. With a ``reference``, the same
    count changes the books once, however often it's reported."""

    sku: str
    change: int
    reason: str
    reference: str = ""


class ReserveInventory(Command):
    """All lines or none. Lines of the same article are added up."""

    order_id: UUID
    lines: tuple[ReservationLine, ...]


class ReleaseReservation(Command):
    order_id: UUID


class CommitReservation(Command):
    order_id: UUID
