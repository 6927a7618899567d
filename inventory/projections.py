from __future__ import annotations

from eventing.projections import Projection
from eventing.records import Record
from inventory.events import (
    StockAdjusted,
    StockEvent,
    StockItemListed,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShipped,
)
from inventory.models import StockLevel


class StockLevels(Projection[StockLevel]):
    """One row an article."""

    key = "sku"

    def apply(self, row: StockLevel, event: StockEvent, record: Record) -> None:
        row.version, row.updated_at = record.version, record.recorded_at
        match event:
            case StockItemListed():
                row.description = event.description
                row.currency, row.list_price_minor = event.list_price.currency, event.list_price.minor
            case StockReceived():
                row.on_hand += event.quantity
            case StockAdjusted():
                row.on_hand += event.change
            case StockReserved():
                row.reserved += event.quantity
            case StockReleased():
                row.reserved -= event.quantity
            case StockShipped():
                row.on_hand -= event.quantity
                row.reserved -= event.quantity
