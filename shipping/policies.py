"""When a parcel may leave the house."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from orders.events import OrderConfirmed
from shipping.commands import ClearShipment, shipment_of


@policy
def clear_for_dispatch(event: OrderConfirmed) -> Iterator[Command]:
    """A confirmed order can't be cancelled any more, so its parcel may go."""
    yield ClearShipment(shipment_id=shipment_of(event.order_id))
