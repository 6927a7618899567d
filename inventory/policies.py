"""What becomes of stock that orders leave with, and that comes back."""

from __future__ import annotations

from collections.abc import Iterator

from eventing.domain import Command
from eventing.policies import policy
from inventory.commands import CommitReservation, ReceiveStock
from inventory.events import units_of_each_article
from orders.events import ItemsReturned
from shipping.events import ShipmentDispatched


@policy
def let_stock_leave(event: ShipmentDispatched) -> Iterator[Command]:
    """What was held for an order has left the house with its parcel."""
    yield CommitReservation(order_id=event.order_id)


@policy
def take_stock_back(event: ItemsReturned) -> Iterator[Command]:
    """What comes back can be sold again. The delivery is named after the return, so that it's received once."""
    for line in units_of_each_article((line.sku, line.quantity) for line in event.lines):
        yield ReceiveStock(
            sku=line.sku, quantity=line.quantity, reference=f"return {event.return_id} of order {event.order_id}"
        )
