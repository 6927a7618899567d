"""What shipping asks of the carrier. The same question may be asked twice, always with the same key."""

from __future__ import annotations

from eventing.effects import effect
from shipping.carrier import carrier
from shipping.commands import RecordBooking
from shipping.events import BookingDiscarded, ShipmentCancelled, ShipmentRequested


@effect(queue="carrier", attempts=8)
def book(event: ShipmentRequested) -> RecordBooking:
    """Have a consignment booked."""
    tracking_number = carrier().book(event.recipient, idempotency_key=str(event.shipment_id))
    return RecordBooking(shipment_id=event.shipment_id, tracking_number=tracking_number)


@effect(queue="carrier", attempts=8)
def void(event: ShipmentCancelled | BookingDiscarded) -> None:
    """Give a booked consignment up; one that is booked after the cancellation will be discarded, and come here too."""
    if event.tracking_number:
        carrier().void(event.tracking_number)
