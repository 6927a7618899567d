from __future__ import annotations

from collections.abc import Iterator

from eventing.projections import Listing, Projection
from eventing.records import Record
from payments.events import (
    PaymentCompleted,
    PaymentEvent,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from payments.models import PaymentSummary, Refund, Status


class PaymentSummaries(Projection[PaymentSummary]):
    """One row a payment."""

    key = "payment_id"
    version = 2

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
                row.refunding_minor += event.amount.minor
                row.status = _status(row)
            case PaymentRefunded():
                row.refunding_minor -= event.amount.minor
                row.refunded_minor += event.amount.minor
                row.refunded_at, row.refund_reference = record.occurred_at, event.reference
                row.status = _status(row)


def _status(row: PaymentSummary) -> Status:
    """Of a payment that is being given back; what something remains of is still completed."""
    if row.refunded_minor + row.refunding_minor < row.amount_minor:
        return Status.COMPLETED
    return Status.REFUNDING if row.refunding_minor else Status.REFUNDED


class Refunds(Listing[Refund]):
    """One row a refund."""

    key = "payment_id"

    def rows(self, event: PaymentRefunded, record: Record) -> Iterator[Refund]:
        yield Refund(
            id=record.id,
            payment_id=event.payment_id,
            order_id=event.order_id,
            refund_id=event.refund_id,
            reference=event.reference,
            currency=event.amount.currency,
            amount_minor=event.amount.minor,
            refunded_at=record.occurred_at,
        )
