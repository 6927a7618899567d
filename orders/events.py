"""What happens to an order."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Event, Value
from eventing.money import Money


class Line(Value):
    """So many units of one article at one price."""

    sku: str
    description: str
    quantity: int
    unit_price: Money


class OrderPlaced(Event, name="orders.order_placed"):
    """``customer_id`` is None for a guest; ``payment_method`` is the gateway's token."""

    order_id: UUID
    customer_id: UUID | None
    reference: str
    lines: tuple[Line, ...]
    total: Money
    payment_method: str


class OrderConfirmed(Event, name="orders.order_confirmed"):
    order_id: UUID


class OrderCancelled(Event, name="orders.order_cancelled"):
    order_id: UUID
    reason: str


class OrderShipped(Event, name="orders.order_shipped"):
    order_id: UUID


class OrderDelivered(Event, name="orders.order_delivered"):
    order_id: UUID


OrderEvent = OrderPlaced | OrderConfirmed | OrderCancelled | OrderShipped | OrderDelivered
