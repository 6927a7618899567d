from __future__ import annotations

from eventing.projections import Projection
from eventing.records import Record
from payments.events import (
    PaymentCompleted,
    PaymentEvent,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from payments.models import PaymentSummary, Status


class PaymentSummaries(Projection[PaymentSummary]):
    """One row a payment."""

    key = "payment_id"

    def apply(self, row: PaymentSummary, event: PaymentEvent, record: Record) -> None:
        row.order_id, row.version, row.updated_at = event.order_id, record.version, record.recorded_at
        match event:
            case PaymentRequested():
                row.status, row.requested_at = Status.REQUESTED, record.occurred_at
                row.currency, row.amount_minor = event.amount.currency, event.amount.minor
                row.method = event.method
            case PaymentCompleted():
                row.status, row.settled_at = Status.COMPLETED, record.occurred_at
                row.requested_at = row.requested_at or record.occurred_at  # nothing to pay: completed at once
                row.currency, row.amount_minor = event.amount.currency, event.amount.minor
                row.charge_reference = event.reference
            case PaymentFailed():
                row.status, row.settled_at = Status.FAILED, record.occurred_at
                row.decline_code, row.decline_message = event.code, event.message
            case RefundRequested():
                row.status = Status.REFUNDING
            case PaymentRefunded():
                row.status, row.refunded_at = Status.REFUNDED, record.occurred_at
                row.refunded_minor, row.refund_reference = event.amount.minor, event.reference
