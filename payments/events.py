"""What happens to the payment of an order."""

from __future__ import annotations

from uuid import UUID

from eventing.domain import Event
from eventing.money import Money


class PaymentRequested(Event, name="payments.payment_requested"):
    """``method`` is the gateway's token."""

    payment_id: UUID
    order_id: UUID
    amount: Money
    method: str


class PaymentCompleted(Event, name="payments.payment_completed"):
    """``reference`` is the gateway's name for the charge; empty when there was nothing to pay."""

    payment_id: UUID
    order_id: UUID
    amount: Money
    reference: str


class PaymentFailed(Event, name="payments.payment_failed"):
    """No money was taken, and none will be."""

    payment_id: UUID
    order_id: UUID
    code: str
    message: str


class RefundRequested(Event, name="payments.refund_requested"):
    """``charge`` is the gateway's name for what is given back, all of it or a part: ``refund_id`` tells parts apart,
    and is None for whatever the parts have left. ``reason`` is somebody's who gives it back of their own accord; empty
    when goods came back, or the order was given up."""

    payment_id: UUID
    order_id: UUID
    amount: Money
    charge: str
    refund_id: UUID | None = None
    reason: str = ""


class PaymentRefunded(Event, name="payments.payment_refunded"):
    """``reference`` is the gateway's name for the refund; empty when there was nothing to give back. ``refund_id`` is
    that of the request."""

    payment_id: UUID
    order_id: UUID
    amount: Money
    reference: str
    refund_id: UUID | None = None


PaymentEvent = PaymentRequested | PaymentCompleted | PaymentFailed | RefundRequested | PaymentRefunded
