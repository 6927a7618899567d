from __future__ import annotations

from enum import Enum
from typing import NamedTuple
from uuid import UUID

from eventing.domain import Aggregate, Rejected
from eventing.money import Money
from eventing.text import check_text, readable
from payments.commands import LONGEST_REASON, Charged, Declined
from payments.events import (
    PaymentCompleted,
    PaymentEvent,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)

LONGEST_CODE = 64
LONGEST_MESSAGE = 500


class Status(Enum):
    NEW = "not requested yet"
    REQUESTED = "requested"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDING = "being refunded"
    REFUNDED = "refunded"


class Refund(NamedTuple):
    """Money on its way back; the gateway's name for it once it's there, empty when nobody had to be asked; and whether
    somebody gives it of their own accord, which isn't for goods that came back."""

    amount: Money
    reference: str | None = None
    of_own_accord: bool = False


class Payment(Aggregate[PaymentEvent], category="payment"):
    """The money for one order: taken once or not at all, and given back at most once, all at a time or in parts.

    Where there is nothing to pay nobody has to be asked: such a payment is completed, and refunded, at once.
    """

    status = Status.NEW
    order_id: UUID
    amount: Money
    outcome: Charged | Declined | None = None

    def __init__(self, id: UUID) -> None:
        super().__init__(id)
        self.refunds: dict[UUID | None, Refund] = {}

    @property
    def remaining(self) -> Money:
        """What hasn't been given back, and isn't being given back."""
        return self.amount - Money.sum([self.amount * 0, *(refund.amount for refund in self.refunds.values())])

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
        """Told the same outcome twice, the payment is settled once. Declined is declined, however it's worded."""
        if isinstance(outcome, Declined):
            outcome = _declined(outcome.code, outcome.message)
        if self.status is Status.NEW:
            raise Rejected(f"Payment {self.id} was never requested.")
        if self.outcome is not None:
            if self.outcome != outcome and not (isinstance(self.outcome, Declined) and isinstance(outcome, Declined)):
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
        """Give back all that parts have left."""
        match self.status, self.outcome:
            case ((Status.REFUNDING | Status.REFUNDED), _) if None in self.refunds:
                pass  # asked twice, answered once
            case ((Status.REFUNDING | Status.REFUNDED), _):  # parts have left nothing; whoever asks waits for an answer
                self.record(
                    PaymentRefunded(payment_id=self.id, order_id=self.order_id, amount=self.amount * 0, reference="")
                )
            case Status.COMPLETED, Charged(reference=""):
                self.record(
                    PaymentRefunded(payment_id=self.id, order_id=self.order_id, amount=self.amount, reference="")
                )
            case Status.COMPLETED, Charged(reference=charge):
                self.record(
                    RefundRequested(payment_id=self.id, order_id=self.order_id, amount=self.remaining, charge=charge)
                )
            case _:
                raise Rejected(f"A payment that is {self.status.value} can't be refunded, only one that is completed.")

    def refund_part(self, refund_id: UUID, amount: Money, reason: str = "") -> None:
        """Asked twice for the same part, it's given back once."""
        check_text("The reason", reason, LONGEST_REASON)
        if refund := self.refunds.get(refund_id):
            if refund.amount != amount:
                raise Rejected(
                    f"Refund {refund_id} is of {refund.amount}, not of {amount}: give the new one its own id."
                )
            if refund.of_own_accord != bool(reason):  # the id of a return, say, that somebody gave a refund too
                purpose = "given of somebody's own accord" if refund.of_own_accord else "for goods that came back"
                raise Rejected(f"Refund {refund_id} is {purpose}, and this one isn't: give it an id of its own.")
            return
        if amount.minor <= 0:
            raise Rejected(f"A refund is more than 0, not {amount}.")
        match self.status, self.outcome:
            case ((Status.COMPLETED | Status.REFUNDING | Status.REFUNDED), Charged(reference=charge)):
                if amount.currency != self.amount.currency:
                    raise Rejected(f"{self.amount} were paid, and can't be refunded in {amount.currency}.")
                if self.remaining < amount:
                    raise Rejected(f"Of {self.amount} that were paid {self.remaining} remain; {amount} is more.")
                self.record(
                    RefundRequested(
                        payment_id=self.id,
                        order_id=self.order_id,
                        amount=amount,
                        charge=charge,
                        refund_id=refund_id,
                        reason=reason,
                    )
                )
            case _:
                raise Rejected(f"A payment that is {self.status.value} can't be refunded, only one that is completed.")

    def record_refund(self, reference: str, refund_id: UUID | None = None) -> None:
        match self.refunds.get(refund_id):
            case Refund(amount, None):
                self.record(
                    PaymentRefunded(
                        payment_id=self.id,
                        order_id=self.order_id,
                        amount=amount,
                        reference=reference,
                        refund_id=refund_id,
                    )
                )
            case Refund(_, known) if known == reference:
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
                self.status, self.outcome = Status.FAILED, _declined(event.code, event.message)
            case RefundRequested():
                self._give_back(event.refund_id, Refund(event.amount, of_own_accord=event.reason != ""))
            case PaymentRefunded():
                asked = self.refunds.get(event.refund_id)  # none where nobody had to be asked
                own_accord = asked is not None and asked.of_own_accord
                self._give_back(event.refund_id, Refund(event.amount, event.reference, own_accord))

    def _give_back(self, refund_id: UUID | None, refund: Refund) -> None:
        """A payment of which something remains is still completed."""
        self.refunds[refund_id] = refund
        if self.remaining.minor == 0:
            awaited = any(each.reference is None for each in self.refunds.values())
            self.status = Status.REFUNDING if awaited else Status.REFUNDED


def _declined(code: str, message: str) -> Declined:
    return Declined(code=readable(code, LONGEST_CODE), message=readable(message, LONGEST_MESSAGE))
