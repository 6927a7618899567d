from __future__ import annotations

from eventing import store
from eventing.handlers import handles
from shipping.aggregates import Shipment
from shipping.commands import (
    CancelShipment,
    ClearShipment,
    CreateShipment,
    DeliverShipment,
    DispatchShipment,
    ForgetRecipient,
    RecordBooking,
)


@handles
def create_shipment(command: CreateShipment) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.request(command.order_id, command.person_id, command.recipient)


@handles
def record_booking(command: RecordBooking) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.record_booking(command.tracking_number)


@handles
def clear_shipment(command: ClearShipment) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.clear()


@handles
def dispatch_shipment(command: DispatchShipment) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.dispatch()


@handles
def deliver_shipment(command: DeliverShipment) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.deliver()


@handles
def cancel_shipment(command: CancelShipment) -> None:
    with store.edit(Shipment, command.shipment_id) as shipment:
        shipment.cancel()


@handles
def forget_recipient(command: ForgetRecipient) -> None:
    with store.edit_all(Shipment, store.ids_of_person(Shipment, command.person_id)) as shipments:
        for shipment in shipments.values():
            shipment.forget_recipient()
