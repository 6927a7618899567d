from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from eventing.domain import Command, CommandRejected, Event, GivenUp, Resumed, Saga, TimedOut
from eventing.sagas import saga
from orders.events import Fulfilment, OrderCancelled, OrderPlaced
from payments.commands import ProcessPayment, RefundPayment, payment_of
from payments.events import PaymentCompleted, PaymentFailed, PaymentRefunded, RefundRequested

DEADLINE = timedelta(minutes=15)  # what takes longer is stuck


@saga
class OrderPayment(Saga):
    """Choreography: take the money for an order, and give it back should the order be cancelled.

    A cancellation may come while it isn't known whether money was taken; it's given back once it turns out that it was.
    """

    begins_with = OrderPlaced
    correlation = "order_id"

    order_cancelled: bool = False
    reason: str = ""

    @classmethod
    def is_begun_by(cls, event: Event) -> bool:
        """Orders that nobody conducts."""
        return isinstance(event, OrderPlaced) and event.fulfilment is Fulfilment.CHOREOGRAPHED

    def react(
        self,
        event: OrderPlaced
        | OrderCancelled
        | PaymentCompleted
        | PaymentFailed
        | PaymentRefunded
        | TimedOut
        | Resumed
        | GivenUp
        | CommandRejected,
    ) -> Iterator[Command]:
        match event:
            case OrderPlaced():
                self.state = "PAYMENT_PENDING"
                self.remind_me(after=DEADLINE)
                yield ProcessPayment(
                    payment_id=payment_of(self.id), order_id=self.id, amount=event.total, method=event.payment_method
                )
            case PaymentCompleted():
                self.state = "COMPLETED"
                if self.order_cancelled:
                    yield from self._give_back()
            case OrderCancelled():
                self.order_cancelled = True
                if self.state == "COMPLETED":
                    yield from self._give_back()
            case PaymentFailed() | PaymentRefunded(refund_id=None):
                self.state, self.reason = "COMPENSATED", ""
            case PaymentRefunded():
                pass  # a part, for goods that came back
            case TimedOut():
                pass  # orders decides what comes of it; whoever looks for stuck sagas finds this one by its deadline
            case Resumed() if self.state == "FAILED":
                yield from self._give_back()
            case Resumed():
                pass  # it awaits an answer, which comes by itself
            case GivenUp(event=RefundRequested(refund_id=None)) if self.state == "COMPENSATING":
                self.state, self.reason = "FAILED", f"The refund was given up; letter {event.letter} says why"
            case GivenUp():
                pass  # the charge, of which nobody knows yet, or a part
            case CommandRejected(command=ProcessPayment()):
                self.state, self.reason = "COMPENSATED", event.reason
            case CommandRejected():
                self.state, self.reason = "FAILED", f"{type(event.command).__name__} was refused: {event.reason}"

    def _give_back(self) -> Iterator[Command]:
        self.state = "COMPENSATING"
        self.remind_me(after=DEADLINE)
        yield RefundPayment(payment_id=payment_of(self.id))
