from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import Enum
from typing import Annotated
from uuid import UUID

from eventing.contact import Contact
from eventing.domain import FAILED, Command, CommandRejected, Event, GivenUp, Personal, Resumed, Saga, TimedOut
from eventing.money import Money
from eventing.people import PersonForgotten
from eventing.sagas import saga
from eventing.text import readable
from inventory.commands import ReleaseReservation, ReserveInventory
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationLine,
    ReservationReleased,
    Shortage,
    units_of_each_article,
)
from orders.commands import LONGEST_REASON, CancelOrder, ConfirmOrder, ForgetBuyer
from orders.events import BuyerForgotten, Fulfilment, OrderCancelled, OrderConfirmed, OrderPlaced
from payments.commands import ProcessPayment, RefundPayment, payment_of
from payments.events import PaymentCompleted, PaymentFailed, PaymentRefunded, RefundRequested
from shipping.commands import CancelShipment, CreateShipment, shipment_of
from shipping.events import ShipmentCancelled, ShipmentCreated

DEADLINE = timedelta(minutes=15)
FORWARD = frozenset({"STARTED", "PAYMENT_PENDING", "INVENTORY_PENDING", "SHIPPING_PENDING"})


class Step(Enum):
    """How far one of the three steps has come, there or back."""

    UNTOUCHED = "untouched"
    ASKED = "asked"
    DONE = "done"
    UNDOING = "undoing"
    STUCK = "stuck"
    UNDONE = "undone"


SETTLED = (Step.UNTOUCHED, Step.UNDONE)


@saga
class OrderFulfilment(Saga):
    """Take the payment, reserve the stock, create the shipment, confirm the order; or undo what was done, newest first.

    Stock and a shipment can be given back while their answer is still awaited. A payment can't: whether money was
    taken isn't known before the gateway has said so, and until then the order isn't cancelled either.
    """

    begins_with = OrderPlaced
    correlation = "order_id"

    payment: Step = Step.UNTOUCHED
    stock: Step = Step.UNTOUCHED
    shipment: Step = Step.UNTOUCHED
    order_cancelled: bool = False
    given_up: str = ""
    amount: Money | None = None
    method: str = ""
    lines: tuple[ReservationLine, ...] = ()
    customer_id: UUID | None = None
    recipient: Annotated[Contact | None, Personal("customer_id", "id")] = None

    @classmethod
    def is_begun_by(cls, event: Event) -> bool:
        """Orders that aren't left to choreography."""
        return isinstance(event, OrderPlaced) and event.fulfilment is Fulfilment.ORCHESTRATED

    def react(
        self,
        event: OrderPlaced
        | OrderCancelled
        | BuyerForgotten
        | PaymentCompleted
        | PaymentFailed
        | PaymentRefunded
        | InventoryReserved
        | InventoryReservationFailed
        | ReservationReleased
        | ShipmentCreated
        | ShipmentCancelled
        | TimedOut
        | Resumed
        | GivenUp
        | CommandRejected,
    ) -> Iterator[Command]:
        match event:
            case OrderPlaced():
                self.state, self.payment = "PAYMENT_PENDING", Step.ASKED
                self.amount, self.method = event.total, event.payment_method
                self.lines = units_of_each_article((line.sku, line.quantity) for line in event.lines)
                self.customer_id, self.recipient = event.customer_id, event.contact
                self.remind_me(after=DEADLINE)
                yield from self._ask()

            case PaymentCompleted():
                self.payment = Step.DONE
                if self.state in FORWARD:
                    self.state, self.stock = "INVENTORY_PENDING", Step.ASKED
                    yield from self._ask()
                else:
                    yield from self._undo()

            case InventoryReserved() if self.state in FORWARD:
                self.state, self.stock, self.shipment = "SHIPPING_PENDING", Step.DONE, Step.ASKED
                yield from self._ask()
                self.lines, self.recipient = (), None

            case ShipmentCreated() if self.state in FORWARD:
                self.state, self.shipment = "COMPLETED", Step.DONE
                yield ConfirmOrder(order_id=self.id)

            case InventoryReserved() | ShipmentCreated():
                pass  # it's being given back already

            case PaymentFailed():
                self.payment = Step.UNDONE
                yield from self._give_up(f"Payment failed: {event.message}")

            case InventoryReservationFailed():
                self.stock = Step.UNDONE
                yield from self._give_up(_out_of_stock(event.shortages))

            case OrderCancelled():
                self.order_cancelled = True
                yield from self._give_up(event.reason)

            case TimedOut():
                yield from self._give_up("It could not be fulfilled in time")

            case PaymentRefunded(refund_id=None):
                if self.payment is Step.STUCK:
                    self.state, self.reason = "COMPENSATING", self.given_up  # a person has seen to it
                self.payment = Step.UNDONE
                yield from self._give_up("The payment was refunded")

            case PaymentRefunded():
                pass  # a part, for goods that came back

            case ReservationReleased():
                self.stock = Step.UNDONE
                yield from self._give_up("The stock was released")

            case ShipmentCancelled():
                self.shipment = Step.UNDONE
                yield from self._give_up("The shipment was cancelled")

            case BuyerForgotten():
                self.recipient = None

            case Resumed():
                yield from self._ask_again()

            case GivenUp(event=RefundRequested(refund_id=None)) if self.state == "COMPENSATING":
                self.state, self.payment = FAILED, Step.STUCK
                self.reason = f"The refund was given up; letter {event.letter} says why"

            case GivenUp():
                pass  # nothing that is being undone: the deadline comes all the same

            case CommandRejected():
                yield from self._refused(event.command, event.reason)

    def _ask(self) -> Iterator[Command]:
        """Ask for the step that is next on the way. However often it's asked for, it's done once."""
        match self.state:
            case "PAYMENT_PENDING" if self.amount is not None:
                yield ProcessPayment(
                    payment_id=payment_of(self.id), order_id=self.id, amount=self.amount, method=self.method
                )
            case "INVENTORY_PENDING":
                yield ReserveInventory(order_id=self.id, lines=self.lines)
            case "SHIPPING_PENDING" if self.shipment is Step.ASKED:
                yield CreateShipment(
                    shipment_id=shipment_of(self.id),
                    order_id=self.id,
                    person_id=self.customer_id,
                    recipient=self.recipient,
                )
            case _:
                pass

    def _ask_again(self) -> Iterator[Command]:
        """For what hasn't been done yet, or undone; also for what was refused, which may not be refused any more."""
        if self.state in FORWARD:
            yield from self._ask()
        elif self.state in ("COMPENSATING", FAILED):
            self.state, self.reason, self.order_cancelled = "COMPENSATING", self.given_up or self.reason, False
            self.payment, self.stock, self.shipment = (
                Step.DONE if step in (Step.UNDOING, Step.STUCK) else step
                for step in (self.payment, self.stock, self.shipment)
            )
            yield from self._undo()

    def _give_up(self, reason: str) -> Iterator[Command]:
        if self.state == "COMPLETED":
            return
        if self.state in FORWARD:
            self.state, self.reason, self.given_up, self.recipient = "COMPENSATING", reason, reason, None
        yield from self._undo()

    def _undo(self) -> Iterator[Command]:
        """Ask for everything to be undone that can be by now; what still can't be is asked for when it's known."""
        if self.shipment in (Step.ASKED, Step.DONE):
            self.shipment = Step.UNDOING
            yield CancelShipment(shipment_id=shipment_of(self.id))
        if self.stock in (Step.ASKED, Step.DONE):
            self.stock = Step.UNDOING
            yield ReleaseReservation(order_id=self.id)
        if self.payment is Step.DONE:
            self.payment = Step.UNDOING
            yield RefundPayment(payment_id=payment_of(self.id))
        if self.payment is not Step.ASKED and not self.order_cancelled:
            self.order_cancelled = True
            yield CancelOrder(order_id=self.id, reason=readable(self.given_up or self.reason, LONGEST_REASON))
        if self.state == "COMPENSATING" and all(step in SETTLED for step in (self.payment, self.stock, self.shipment)):
            self.state = "COMPENSATED"

    def _refused(self, command: Command, reason: str) -> Iterator[Command]:
        match command:
            case ConfirmOrder():
                self.state = "SHIPPING_PENDING"  # it was cancelled a moment before: OrderCancelled is on its way
            case ProcessPayment():
                self.payment = Step.UNTOUCHED
                yield from self._give_up(reason)
            case ReserveInventory():
                self.stock = Step.UNTOUCHED
                yield from self._give_up(reason)
            case CreateShipment():
                self.shipment = Step.UNTOUCHED
                yield from self._give_up(reason)
            case _:
                self.state, self.reason = FAILED, f"{type(command).__name__} was refused: {reason}"


@saga
class OrderOutcome(Saga):
    """Choreography: confirm an order once its shipment is booked; cancel it when some step can't be done, or isn't in
    time. What was done is then undone by those who did it, each when it hears of the cancellation."""

    begins_with = OrderPlaced
    correlation = "order_id"

    confirming: bool = False
    given_up: str = "It could not be fulfilled"  # what one says that gave up before this was remembered

    @classmethod
    def is_begun_by(cls, event: Event) -> bool:
        """Orders that nobody conducts."""
        return isinstance(event, OrderPlaced) and event.fulfilment is Fulfilment.CHOREOGRAPHED

    def react(
        self,
        event: OrderPlaced
        | OrderConfirmed
        | OrderCancelled
        | PaymentCompleted
        | PaymentFailed
        | PaymentRefunded
        | InventoryReserved
        | InventoryReservationFailed
        | ReservationReleased
        | ShipmentCreated
        | ShipmentCancelled
        | TimedOut
        | Resumed
        | CommandRejected,
    ) -> Iterator[Command]:
        match event:
            case OrderPlaced():
                self.state = "PAYMENT_PENDING"
                self.remind_me(after=DEADLINE)
            case PaymentCompleted() if self.state in FORWARD:
                self.state = "INVENTORY_PENDING"
            case InventoryReserved() if self.state in FORWARD:
                self.state = "SHIPPING_PENDING"
            case ShipmentCreated() if self.state in FORWARD:
                self.confirming = True
                yield ConfirmOrder(order_id=self.id)
            case PaymentCompleted() | InventoryReserved() | ShipmentCreated():
                pass  # whoever did it hears of the cancellation too
            case OrderConfirmed():
                self.state = "COMPLETED"
            case OrderCancelled():
                self.state = "COMPENSATED"
            case PaymentFailed():
                yield from self._give_up(f"Payment failed: {event.message}")
            case InventoryReservationFailed():
                yield from self._give_up(_out_of_stock(event.shortages))
            case PaymentRefunded(refund_id=None):
                yield from self._give_up("The payment was refunded")
            case PaymentRefunded():
                pass  # a part, for goods that came back
            case ReservationReleased():
                yield from self._give_up("The stock was released")
            case ShipmentCancelled():
                yield from self._give_up("The shipment was cancelled")
            case TimedOut():
                yield from self._give_up("It could not be fulfilled in time")
            case Resumed() if self.state in ("COMPENSATING", FAILED):
                yield from self._cancel()
            case Resumed():
                pass  # it awaits an event, which comes by itself
            case CommandRejected(command=ConfirmOrder()):
                self.confirming = False  # it was cancelled a moment before: that news is on its way
            case CommandRejected():
                self.state, self.reason = FAILED, f"{type(event.command).__name__} was refused: {event.reason}"

    def _give_up(self, reason: str) -> Iterator[Command]:
        """Unless it's confirmed already, and that news is on its way."""
        if self.state in FORWARD and not self.confirming:
            self.given_up = readable(reason, LONGEST_REASON)
            yield from self._cancel()

    def _cancel(self) -> Iterator[Command]:
        self.state = "COMPENSATING"
        yield CancelOrder(order_id=self.id, reason=self.given_up)


@saga(partitions=1)
class BuyerForgetting(Saga):
    """Forget who bought, in every order of a person who is to be forgotten."""

    begins_with = PersonForgotten
    correlation = "person_id"

    def react(self, event: PersonForgotten) -> Iterator[Command]:
        self.state = "COMPLETED"
        yield ForgetBuyer(person_id=event.person_id)


def _out_of_stock(shortages: Sequence[Shortage]) -> str:
    named = ", ".join(f"{each.sku} ({each.wanted:,} wanted, {each.available:,} available)" for each in shortages[:3])
    more = f" and {len(shortages) - 3:,} more" if len(shortages) > 3 else ""
    return f"Out of stock: {named}{more}"
