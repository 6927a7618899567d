from __future__ import annotations

from enum import Enum
from uuid import UUID

from eventing.contact import Contact, check_contact
from eventing.domain import Aggregate, Rejected
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


class Status(Enum):
    NEW = "not requested yet"
    REQUESTED = "requested"
    CREATED = "created"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class Shipment(Aggregate[ShipmentEvent], category="shipment"):
    """The parcel of one order. The carrier books it; it leaves once the order is confirmed, and until then it can be
    cancelled."""

    status = Status.NEW
    order_id: UUID
    tracking_number = ""
    cleared = False
    recipient_forgotten = False

    def request(self, order_id: UUID, person_id: UUID | None = None, recipient: Contact | None = None) -> None:
        """Asked twice for the same order, the shipment is requested once."""
        if self.status is Status.NEW:
            if recipient is not None:
                check_contact(recipient)
            self.record(
                ShipmentRequested(shipment_id=self.id, order_id=order_id, person_id=person_id, recipient=recipient)
            )
        elif self.order_id != order_id:
            raise Rejected(f"Shipment {self.id} is for order {self.order_id}, not for {order_id}.")

    def record_booking(self, tracking_number: str) -> None:
        """Told the same tracking number twice, the shipment is booked once."""
        if self.status is Status.NEW:
            raise Rejected(f"Shipment {self.id} was never requested.")
        if self.tracking_number == tracking_number:
            return
        if self.tracking_number:
            raise Rejected(f"Shipment {self.id} is booked as {self.tracking_number}, not as {tracking_number}.")
        booked = BookingDiscarded if self.status is Status.CANCELLED else ShipmentCreated
        self.record(booked(shipment_id=self.id, order_id=self.order_id, tracking_number=tracking_number))

    def clear(self) -> None:
        """From now on it may be dispatched, and not be cancelled."""
        match self.status:
            case Status.NEW | Status.REQUESTED | Status.CANCELLED:
                raise Rejected(f"A shipment that is {self.status.value} can't be cleared, only one that is created.")
            case Status.CREATED if not self.cleared:
                self.record(ShipmentCleared(shipment_id=self.id, order_id=self.order_id))
            case Status.CREATED | Status.DISPATCHED | Status.DELIVERED:
                pass  # asked twice, answered once

    def dispatch(self) -> None:
        match self.status:
            case Status.CREATED if not self.cleared:
                raise Rejected("This shipment isn't cleared yet: it leaves the house once its order is confirmed.")
            case Status.CREATED:
                self.record(ShipmentDispatched(shipment_id=self.id, order_id=self.order_id))
            case Status.DISPATCHED | Status.DELIVERED:
                pass  # asked twice, answered once
            case Status.NEW | Status.REQUESTED | Status.CANCELLED:
                raise Rejected(f"A shipment that is {self.status.value} can't be dispatched, only one that is created.")

    def deliver(self) -> None:
        match self.status:
            case Status.DISPATCHED:
                self.record(ShipmentDelivered(shipment_id=self.id, order_id=self.order_id))
            case Status.DELIVERED:
                pass
            case Status.NEW | Status.REQUESTED | Status.CREATED | Status.CANCELLED:
                raise Rejected(
                    f"A shipment that is {self.status.value} can't be delivered, only one that is dispatched."
                )

    def cancel(self) -> None:
        match self.status:
            case Status.CREATED if self.cleared:
                raise Rejected("The order of this shipment is confirmed, so it can't be cancelled any more.")
            case Status.REQUESTED | Status.CREATED:
                self.record(
                    ShipmentCancelled(shipment_id=self.id, order_id=self.order_id, tracking_number=self.tracking_number)
                )
            case Status.CANCELLED:
                pass
            case Status.NEW | Status.DISPATCHED | Status.DELIVERED:
                raise Rejected(
                    f"A shipment that is {self.status.value} can't be cancelled, only one that is requested or created."
                )

    def forget_recipient(self) -> None:
        if self.status is not Status.NEW and not self.recipient_forgotten:
            self.record(RecipientForgotten(shipment_id=self.id, order_id=self.order_id))

    def apply(self, event: ShipmentEvent) -> None:
        self.order_id = event.order_id
        match event:
            case ShipmentRequested():
                self.status = Status.REQUESTED
            case ShipmentCreated():
                self.status, self.tracking_number = Status.CREATED, event.tracking_number
            case ShipmentCleared():
                self.cleared = True
            case ShipmentDispatched():
                self.status = Status.DISPATCHED
            case ShipmentDelivered():
                self.status = Status.DELIVERED
            case ShipmentCancelled():
                self.status = Status.CANCELLED
            case BookingDiscarded():
                self.tracking_number = event.tracking_number
            case RecipientForgotten():
                self.recipient_forgotten = True
