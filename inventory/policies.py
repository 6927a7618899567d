"""What becomes of stock that orders leave with."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from inventory.commands import CommitReservation
from shipping.events import ShipmentDispatched


@policy
def let_stock_leave(event: ShipmentDispatched) -> Iterator[Command]:
    """What was held for an order has left the house with its parcel."""
    yield CommitReservation(order_id=event.order_id)
