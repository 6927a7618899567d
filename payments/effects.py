"""What payments asks of the gateway. The same question may be asked twice, always with the same key."""

from __future__ import annotations

from eventing.effects import effect
from payments.commands import RecordPayment, RecordRefund
from payments.events import PaymentRequested, RefundRequested
from payments.gateway import gateway


@effect(queue="gateway", attempts=8)
def charge(event: PaymentRequested) -> RecordPayment:
    """Ask for the money. An unknown outcome raises, and is asked about again."""
    outcome = gateway().charge(event.amount, event.method, idempotency_key=str(event.payment_id))
    return RecordPayment(payment_id=event.payment_id, outcome=outcome)


@effect(queue="gateway", attempts=8)
def refund(event: RefundRequested) -> RecordRefund:
    """Give the money back."""
    reference = gateway().refund(event.charge, event.amount, idempotency_key=f"{event.payment_id}-refund")
    return RecordRefund(payment_id=event.payment_id, reference=reference)
