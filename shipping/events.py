"""What happens to the shipment of an order."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Event


class ShipmentRequested(Event, name="shipping.shipment_requested"):
    shipment_id: UUID
    order_id: UUID


class ShipmentCreated(Event, name="shipping.shipment_created"):
    """The carrier has booked it."""

    shipment_id: UUID
    order_id: UUID
    tracking_number: str


class ShipmentDispatched(Event, name="shipping.shipment_dispatched"):
    shipment_id: UUID
    order_id: UUID


class ShipmentDelivered(Event, name="shipping.shipment_delivered"):
    shipment_id: UUID
    order_id: UUID


class ShipmentCancelled(Event, name="shipping.shipment_cancelled"):
    """``tracking_number`` is empty when the carrier hadn't booked it yet."""

    shipment_id: UUID
    order_id: UUID
    tracking_number: str


class BookingDiscarded(Event, name="shipping.booking_discarded"):
    """The carrier booked a shipment that had been cancelled meanwhile."""

    shipment_id: UUID
    order_id: UUID
    tracking_number: str


ShipmentEvent = (
    ShipmentRequested | ShipmentCreated | ShipmentDispatched | ShipmentDelivered | ShipmentCancelled | BookingDiscarded
)
