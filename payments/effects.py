"""What payments asks of the gateway. The same question may be asked twice, always with the same key."""

from __future__ import annotations

from eventing import store
from eventing.effects import Delivery, effect
from payments.aggregates import Payment
from payments.commands import RecordPayment, RecordRefund, key_of_refund
from payments.events import PaymentRequested, RefundRequested
from payments.gateway import gateway


@effect(queue="gateway", attempts=8)
def charge(event: PaymentRequested, delivery: Delivery) -> RecordPayment | None:
    """Ask for the money. An unknown outcome raises, and is asked about again, unless a webhook told it meanwhile."""
    if store.load(Payment, event.payment_id).outcome is not None:
        return None
    outcome = gateway().charge(
        event.amount,
        event.method,
        idempotency_key=str(event.payment_id),
        requested_at=delivery.record.recorded_at,
    )
    return RecordPayment(payment_id=event.payment_id, outcome=outcome)


@effect(queue="gateway", attempts=8)
def refund(event: RefundRequested, delivery: Delivery) -> RecordRefund | None:
    """Give the money back, all of it or a part, unless a webhook told that it's there."""
    if store.load(Payment, event.payment_id).refunds[event.refund_id].reference is not None:
        return None
    key = key_of_refund(event.payment_id, event.refund_id)
    reference = gateway().refund(
        event.charge, event.amount, idempotency_key=key, requested_at=delivery.record.recorded_at
    )
    return RecordRefund(payment_id=event.payment_id, refund_id=event.refund_id, reference=reference)
