from __future__ import annotations

from enum import Enum
from uuid import UUID

from eventing.domain import Aggregate, Rejected
from eventing.money import Money
from payments.commands import Charged, Declined
from payments.events import (
    PaymentCompleted,
    PaymentEvent,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)


class Status(Enum):
    NEW = "not requested yet"
    REQUESTED = "requested"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDING = "being refunded"
    REFUNDED = "refunded"


class Payment(Aggregate[PaymentEvent], category="payment"):
    """The money for one order: taken once or not at all, and given back at most once.

    Where there is nothing to pay nobody has to be asked: such a payment is completed, and refunded, at once.
    """

    status = Status.NEW
    order_id: UUID
    amount: Money
    outcome: Charged | Declined | None = None
    refund_reference = ""

    def request(self, order_id: UUID, amount: Money, method: str) -> None:
        """Asked twice for the same order and amount, the payment is requested once."""
        if self.status is not Status.NEW:
            if (self.order_id, self.amount) != (order_id, amount):
                raise Rejected(
                    f"Payment {self.id} is {self.amount} for order {self.order_id}, not {amount} for {order_id}."
                )
        elif amount.minor < 0:
            raise Rejected(f"A payment is 0 or more, not {amount}.")
        elif amount.minor == 0:
            self.record(PaymentCompleted(payment_id=self.id, order_id=order_id, amount=amount, reference=""))
        else:
            self.record(PaymentRequested(payment_id=self.id, order_id=order_id, amount=amount, method=method))

    def settle(self, outcome: Charged | Declined) -> None:
        """Told the same outcome twice, the payment is settled once."""
        if self.status is Status.NEW:
            raise Rejected(f"Payment {self.id} was never requested.")
        if self.outcome is not None:
            if self.outcome != outcome:
                raise Rejected(f"Payment {self.id} was settled as {self.outcome}, and can't be {outcome} as well.")
            return
        match outcome:
            case Charged(reference=reference):
                self.record(
                    PaymentCompleted(
                        payment_id=self.id, order_id=self.order_id, amount=self.amount, reference=reference
                    )
                )
            case Declined(code=code, message=message):
                self.record(PaymentFailed(payment_id=self.id, order_id=self.order_id, code=code, message=message))

    def refund(self) -> None:
        match self.status, self.outcome:
            case ((Status.REFUNDING | Status.REFUNDED), _):
                pass  # asked twice, answered once
            case Status.COMPLETED, Charged(reference=""):
                self.record(
                    PaymentRefunded(payment_id=self.id, order_id=self.order_id, amount=self.amount, reference="")
                )
            case Status.COMPLETED, Charged(reference=charge):
                self.record(
                    RefundRequested(payment_id=self.id, order_id=self.order_id, amount=self.amount, charge=charge)
                )
            case _:
                raise Rejected(f"A payment that is {self.status.value} can't be refunded, only one that is completed.")

    def record_refund(self, reference: str) -> None:
        match self.status:
            case Status.REFUNDING:
                self.record(
                    PaymentRefunded(payment_id=self.id, order_id=self.order_id, amount=self.amount, reference=reference)
                )
            case Status.REFUNDED if self.refund_reference == reference:
                pass
            case _:
                raise Rejected(f"A payment that is {self.status.value} has no refund {reference!r} to wait for.")

    def apply(self, event: PaymentEvent) -> None:
        self.order_id = event.order_id
        match event:
            case PaymentRequested():
                self.status, self.amount = Status.REQUESTED, event.amount
            case PaymentCompleted():
                self.status, self.amount = Status.COMPLETED, event.amount
                self.outcome = Charged(reference=event.reference)
            case PaymentFailed():
                self.status, self.outcome = Status.FAILED, Declined(code=event.code, message=event.message)
            case RefundRequested():
                self.status = Status.REFUNDING
            case PaymentRefunded():
                self.status, self.refund_reference = Status.REFUNDED, event.reference
