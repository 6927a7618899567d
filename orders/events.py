"""What happens to an order."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from eventing.contact import Contact
from eventing.domain import Event, Personal, Value
from eventing.money import Money


class Line(Value):
    """So many units of one article at one price."""

    sku: str
    description: str
    quantity: int
    unit_price: Money


class OrderPlaced(Event, name="orders.order_placed"):
    """``customer_id`` is None for a guest; ``payment_method`` is the gateway's token; ``contact`` is who bought it and
    where it goes."""

    order_id: UUID
    customer_id: UUID | None
    reference: str
    lines: tuple[Line, ...]
    total: Money
    payment_method: str
    contact: Annotated[Contact | None, Personal("customer_id", "order_id")] = None


class OrderConfirmed(Event, name="orders.order_confirmed"):
    order_id: UUID


class OrderCancelled(Event, name="orders.order_cancelled"):
    order_id: UUID
    reason: str


class OrderShipped(Event, name="orders.order_shipped"):
    order_id: UUID


class OrderDelivered(Event, name="orders.order_delivered"):
    order_id: UUID


class BuyerForgotten(Event, name="orders.buyer_forgotten"):
    """Who bought it isn't known any more."""

    order_id: UUID


OrderEvent = OrderPlaced | OrderConfirmed | OrderCancelled | OrderShipped | OrderDelivered | BuyerForgotten
