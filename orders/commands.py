"""What can be asked of an order."""

from __future__ import annotations

from uuid import UUID

from eventing.contact import Contact
from eventing.domain import Command, Value
from orders.events import Fulfilment, Line

LONGEST_REASON = 1_000


class PlaceOrder(Command):
    """``customer_id`` is None for a guest; ``reference`` is the order's name elsewhere, such as an invoice number.
    Without ``fulfilment`` it's the manner that the setting ``FULFILMENT`` chooses."""

    order_id: UUID
    customer_id: UUID | None
    lines: tuple[Line, ...]
    reference: str = ""
    payment_method: str = "tok_visa"
    contact: Contact | None = None
    fulfilment: Fulfilment | None = None


class ConfirmOrder(Command):
    order_id: UUID


class CancelOrder(Command):
    order_id: UUID
    reason: str


class MarkOrderShipped(Command):
    order_id: UUID


class MarkOrderDelivered(Command):
    order_id: UUID


class ReturnLine(Value):
    """So many units of an order's line; ``number`` is the line's place in the order, from 1."""

    number: int
    quantity: int


class ReturnItems(Command):
    """Take goods of a shipped order back. ``return_id`` tells the return from others of the order."""

    order_id: UUID
    return_id: UUID
    lines: tuple[ReturnLine, ...]
    reason: str


class ForgetBuyer(Command):
    """In all orders of a person: of a customer, or of a guest, who is known by the order's own id."""

    person_id: UUID
