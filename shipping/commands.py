"""What can be asked of shipping."""

from __future__ import annotations

from uuid import UUID

from eventing.contact import Contact
from eventing.domain import Command


class CreateShipment(Command):
    """``person_id`` is who the recipient is known by, None for a guest."""

    shipment_id: UUID
    order_id: UUID
    person_id: UUID | None = None
    recipient: Contact | None = None


class RecordBooking(Command):
    shipment_id: UUID
    tracking_number: str


class DispatchShipment(Command):
    shipment_id: UUID


class DeliverShipment(Command):
    shipment_id: UUID


class CancelShipment(Command):
    shipment_id: UUID


class ForgetRecipient(Command):
    """In all shipments to a person."""

    person_id: UUID
