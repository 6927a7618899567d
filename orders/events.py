"""What happens to an order."""

from __future__ import annotations

from enum import Enum
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


class Fulfilment(Enum):
    """Who sees to it that an order is paid, reserved and shipped: one saga, or each context by what it hears."""

    ORCHESTRATED = "orchestrated"
    CHOREOGRAPHED = "choreographed"


class OrderPlaced(Event, name="orders.order_placed"):
    """``customer_id`` is None for a guest; ``payment_method`` is the gateway's token; ``contact`` is who bought it and
    where it goes. An order is fulfilled in the manner that it was placed with, whatever is chosen for others later."""

    order_id: UUID
    customer_id: UUID | None
    reference: str
    lines: tuple[Line, ...]
    total: Money
    payment_method: str
    contact: Annotated[Contact | None, Personal("customer_id", "order_id")] = None
    fulfilment: Fulfilment = Fulfilment.ORCHESTRATED


class OrderConfirmed(Event, name="orders.order_confirmed"):
    order_id: UUID


class OrderCancelled(Event, name="orders.order_cancelled"):
    order_id: UUID
    reason: str


class OrderShipped(Event, name="orders.order_shipped"):
    order_id: UUID


class OrderDelivered(Event, name="orders.order_delivered"):
    order_id: UUID


class ReturnedLine(Value):
    """So many units of an order's line that came back; ``number`` is the line's place in the order, from 1."""

    number: int
    sku: str
    quantity: int
    unit_price: Money


class ItemsReturned(Event, name="orders.items_returned"):
    """Goods of a shipped order came back. ``refund`` is what was paid for them, and ``return_id`` is the return's name
    within its order."""

    order_id: UUID
    return_id: UUID
    lines: tuple[ReturnedLine, ...]
    refund: Money
    reason: str


class OrderStatusChanged(Event, name="orders.order_status_changed"):
    """A notification, and no more than that: who wants to know what changed asks for the order, of this ``version`` or
    a later one. For orders whose buyer left an address to be told at."""

    order_id: UUID
    version: int


class BuyerForgotten(Event, name="orders.buyer_forgotten"):
    """Who bought it isn't known any more."""

    order_id: UUID


OrderEvent = (
    OrderPlaced
    | OrderConfirmed
    | OrderCancelled
    | OrderShipped
    | OrderDelivered
    | ItemsReturned
    | OrderStatusChanged
    | BuyerForgotten
)
