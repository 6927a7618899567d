"""What can be asked of payments."""

from __future__ import annotations

from uuid import UUID, uuid5

from eventing.domain import Command, Value
from eventing.money import Money

LONGEST_REASON = 500


def payment_of(order_id: UUID) -> UUID:
    """The id of an order's payment: the same for the same order, so that a repeated request makes no second one."""
    return uuid5(order_id, "payment")


def key_of_refund(payment_id: UUID, refund_id: UUID | None) -> str:
    """What the gateway knows a refund by; a charge it knows by the payment's id."""
    return f"{payment_id}-refund" if refund_id is None else f"{payment_id}-refund-{refund_id}"


def payment_and_refund(key: str) -> tuple[UUID, UUID | None]:
    """Whose key it is that the gateway knows a charge or a refund by. Raises ValueError for one that isn't ours."""
    payment, _, refund = key.partition("-refund")
    return UUID(payment), UUID(refund.removeprefix("-")) if refund else None


class Charged(Value):
    """The gateway took the money, and calls the charge ``reference``."""

    reference: str


class Declined(Value):
    """The gateway took nothing. ``code`` is for programs, ``message`` for people."""

    code: str
    message: str


class ProcessPayment(Command):
    payment_id: UUID
    order_id: UUID
    amount: Money
    method: str


class RecordPayment(Command):
    payment_id: UUID
    outcome: Charged | Declined


class RefundPayment(Command):
    """Give back all that hasn't been given back yet."""

    payment_id: UUID


class RefundPart(Command):
    """Give a part back; ``refund_id`` tells it from other parts. Who does so of their own accord gives a ``reason``."""

    payment_id: UUID
    refund_id: UUID
    amount: Money
    reason: str = ""


class RecordRefund(Command):
    """``refund_id`` is None when all of it was given back."""

    payment_id: UUID
    reference: str
    refund_id: UUID | None = None
