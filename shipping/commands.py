"""What can be asked of shipping."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Command


class CreateShipment(Command):
    shipment_id: UUID
    order_id: UUID


class RecordBooking(Command):
    shipment_id: UUID
    tracking_number: str


class DispatchShipment(Command):
    shipment_id: UUID


class DeliverShipment(Command):
    shipment_id: UUID


class CancelShipment(Command):
    shipment_id: UUID
