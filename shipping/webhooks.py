"""What comes of what the carrier tells of its own accord."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.inbox import receives
from shipping.carrier import Scan, carrier
from shipping.commands import DeliverShipment, DispatchShipment
from shipping.models import ShipmentSummary


@receives("shipping")
def seen_by_the_carrier(body: bytes) -> Iterator[Command]:
    """A parcel that was delivered has been picked up, whichever is told first. One that isn't known yet, or isn't
    cleared to leave, will be: what is told is tried again later."""
    if (sighting := carrier().read(body)) is None:
        return
    shipment = ShipmentSummary.objects.get(tracking_number=sighting.tracking_number)
    yield DispatchShipment(shipment_id=shipment.shipment_id)
    if sighting.scan is Scan.DELIVERED:
        yield DeliverShipment(shipment_id=shipment.shipment_id)
