"""What happens to the shipment of an order."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from eventing.contact import Contact
from eventing.domain import Event, Personal


class ShipmentRequested(Event, name="shipping.shipment_requested"):
    """``person_id`` is who the recipient is known by; a guest is known by the order."""

    shipment_id: UUID
    order_id: UUID
    person_id: UUID | None = None
    recipient: Annotated[Contact | None, Personal("person_id", "order_id")] = None


class ShipmentCreated(Event, name="shipping.shipment_created"):
    """The carrier has booked it."""

    shipment_id: UUID
    order_id: UUID
    tracking_number: str


class ShipmentCleared(Event, name="shipping.shipment_cleared"):
    """It may leave the house."""

    shipment_id: UUID
    order_id: UUID


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


class RecipientForgotten(Event, name="shipping.recipient_forgotten"):
    """Who it goes to isn't known any more."""

    shipment_id: UUID
    order_id: UUID


ShipmentEvent = (
    ShipmentRequested
    | ShipmentCreated
    | ShipmentCleared
    | ShipmentDispatched
    | ShipmentDelivered
    | ShipmentCancelled
    | BookingDiscarded
    | RecipientForgotten
)
