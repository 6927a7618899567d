"""What becomes of an order once its parcel is on its way."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from orders.commands import MarkOrderDelivered, MarkOrderShipped
from shipping.events import ShipmentDelivered, ShipmentDispatched


@policy
def follow_the_parcel(event: ShipmentDispatched | ShipmentDelivered) -> Iterator[Command]:
    """An order is where its parcel is."""
    match event:
        case ShipmentDispatched():
            yield MarkOrderShipped(order_id=event.order_id)
        case ShipmentDelivered():
            yield MarkOrderDelivered(order_id=event.order_id)
