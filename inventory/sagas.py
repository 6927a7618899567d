from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from eventing.domain import Command, CommandRejected, Event, Resumed, Saga, TimedOut
from eventing.sagas import saga
from inventory.commands import ReleaseReservation, ReserveInventory
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationLine,
    ReservationReleased,
    units_of_each_article,
)
from orders.events import Fulfilment, OrderCancelled, OrderPlaced
from payments.events import PaymentCompleted

DEADLINE = timedelta(minutes=15)  # what takes longer is stuck


@saga
class OrderStock(Saga):
    """Choreography: hold the stock for an order once it's paid for, and let go of it should the order be cancelled."""

    begins_with = OrderPlaced
    correlation = "order_id"

    lines: tuple[ReservationLine, ...] = ()
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
        | InventoryReserved
        | InventoryReservationFailed
        | ReservationReleased
        | TimedOut
        | Resumed
        | CommandRejected,
    ) -> Iterator[Command]:
        match event:
            case OrderPlaced():
                self.state = "PAYMENT_PENDING"
                self.remind_me(after=DEADLINE)
                self.lines = units_of_each_article((line.sku, line.quantity) for line in event.lines)
            case PaymentCompleted() if self.state == "PAYMENT_PENDING":
                self.state = "INVENTORY_PENDING"
                yield ReserveInventory(order_id=self.id, lines=self.lines)
                self.lines = ()
            case PaymentCompleted():
                pass  # the order is cancelled already
            case InventoryReserved() if self.state == "INVENTORY_PENDING":
                self.state = "COMPLETED"
            case InventoryReserved():
                pass  # it's being let go of already
            case InventoryReservationFailed() | ReservationReleased():
                self.state = "COMPENSATED"
            case OrderCancelled() if self.state in ("INVENTORY_PENDING", "COMPLETED"):
                yield from self._let_go()
            case TimedOut():
                pass  # orders decides what comes of it; whoever looks for stuck sagas finds this one by its deadline
            case Resumed() if self.state == "FAILED":
                yield from self._let_go()
            case Resumed():
                pass  # it awaits an event, which comes by itself
            case OrderCancelled():
                self.state = "COMPENSATED"
            case CommandRejected(command=ReserveInventory()):
                self.state, self.reason = "COMPENSATED", event.reason
            case CommandRejected():
                self.state, self.reason = "FAILED", f"{type(event.command).__name__} was refused: {event.reason}"

    def _let_go(self) -> Iterator[Command]:
        self.state = "COMPENSATING"
        self.remind_me(after=DEADLINE)
        yield ReleaseReservation(order_id=self.id)
