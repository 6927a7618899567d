"""What can be asked of shipping."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid5

from eventing.contact import Contact
from eventing.domain import Command, Personal


def shipment_of(order_id: UUID) -> UUID:
    """The id of an order's shipment: the same for the same order, so that a repeated request makes no second one."""
    return uuid5(order_id, "shipment")


class CreateShipment(Command):
    """``person_id`` is who the recipient is known by, None for a guest."""

    shipment_id: UUID
    order_id: UUID
    person_id: UUID | None = None
    recipient: Annotated[Contact | None, Personal("person_id", "order_id")] = None


class RecordBooking(Command):
    shipment_id: UUID
    tracking_number: str


class ClearShipment(Command):
    """Its order is confirmed, and can't be cancelled any more: the parcel may leave the house."""

    shipment_id: UUID


class DispatchShipment(Command):
    shipment_id: UUID


class DeliverShipment(Command):
    shipment_id: UUID


class CancelShipment(Command):
    shipment_id: UUID


class ForgetRecipient(Command):
    """In all shipments to a person."""

    person_id: UUID
