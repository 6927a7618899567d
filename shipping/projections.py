from __future__ import annotations

from eventing.projections import Projection
from eventing.records import Record
from shipping.events import (
    BookingDiscarded,
    RecipientForgotten,
    ShipmentCancelled,
    ShipmentCleared,
    ShipmentCreated,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentEvent,
    ShipmentRequested,
)
from shipping.models import ShipmentSummary, Status


class ShipmentSummaries(Projection[ShipmentSummary]):
    """One row a shipment."""

    key = "shipment_id"

    def apply(self, row: ShipmentSummary, event: ShipmentEvent, record: Record) -> None:
        row.order_id, row.version, row.updated_at = event.order_id, record.version, record.recorded_at
        match event:
            case ShipmentRequested():
                row.status, row.requested_at = Status.REQUESTED, record.occurred_at
            case ShipmentCreated():
                row.status, row.created_at = Status.CREATED, record.occurred_at
                row.tracking_number = event.tracking_number
            case ShipmentCleared():
                row.cleared_at = record.occurred_at
            case ShipmentDispatched():
                row.status, row.dispatched_at = Status.DISPATCHED, record.occurred_at
            case ShipmentDelivered():
                row.status, row.delivered_at = Status.DELIVERED, record.occurred_at
            case ShipmentCancelled():
                row.status, row.cancelled_at = Status.CANCELLED, record.occurred_at
            case BookingDiscarded():
                row.tracking_number = event.tracking_number
            case RecipientForgotten():
                pass  # who it goes to isn't shown here
