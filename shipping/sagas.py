from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from eventing.contact import Contact
from eventing.domain import Command, CommandRejected, Event, Personal, Resumed, Saga, TimedOut
from eventing.people import PersonForgotten
from eventing.sagas import saga
from inventory.events import InventoryReserved
from orders.events import BuyerForgotten, Fulfilment, OrderCancelled, OrderPlaced
from shipping.commands import CancelShipment, CreateShipment, ForgetRecipient, shipment_of
from shipping.events import ShipmentCancelled, ShipmentCreated

DEADLINE = timedelta(minutes=15)  # what takes longer is stuck


@saga
class OrderShipment(Saga):
    """Choreography: have an order's parcel booked once its stock is held, and cancelled should the order be."""

    begins_with = OrderPlaced
    correlation = "order_id"

    reason: str = ""
    customer_id: UUID | None = None
    recipient: Annotated[Contact | None, Personal("customer_id", "id")] = None

    @classmethod
    def is_begun_by(cls, event: Event) -> bool:
        """Orders that nobody conducts."""
        return isinstance(event, OrderPlaced) and event.fulfilment is Fulfilment.CHOREOGRAPHED

    def react(
        self,
        event: OrderPlaced
        | OrderCancelled
        | BuyerForgotten
        | InventoryReserved
        | ShipmentCreated
        | ShipmentCancelled
        | TimedOut
        | Resumed
        | CommandRejected,
    ) -> Iterator[Command]:
        match event:
            case OrderPlaced():
                self.state = "INVENTORY_PENDING"
                self.remind_me(after=DEADLINE)
                self.customer_id, self.recipient = event.customer_id, event.contact
            case InventoryReserved() if self.state == "INVENTORY_PENDING":
                self.state = "SHIPPING_PENDING"
                recipient, self.recipient = self.recipient, None
                yield CreateShipment(
                    shipment_id=shipment_of(self.id),
                    order_id=self.id,
                    person_id=self.customer_id,
                    recipient=recipient,
                )
            case InventoryReserved():
                pass  # the order is cancelled already
            case ShipmentCreated() if self.state == "SHIPPING_PENDING":
                self.state = "COMPLETED"
            case ShipmentCreated():
                pass  # it's being cancelled already
            case ShipmentCancelled():
                self.state = "COMPENSATED"
            case OrderCancelled() if self.state in ("SHIPPING_PENDING", "COMPLETED"):
                yield from self._cancel()
            case TimedOut():
                pass  # orders decides what comes of it; whoever looks for stuck sagas finds this one by its deadline
            case Resumed() if self.state == "FAILED":
                yield from self._cancel()
            case Resumed():
                pass  # it awaits an event, which comes by itself
            case OrderCancelled():
                self.state, self.recipient = "COMPENSATED", None
            case BuyerForgotten():
                self.recipient = None
            case CommandRejected(command=CreateShipment()):
                self.state, self.reason = "COMPENSATED", event.reason
            case CommandRejected():
                self.state, self.reason = "FAILED", f"{type(event.command).__name__} was refused: {event.reason}"

    def _cancel(self) -> Iterator[Command]:
        self.state = "COMPENSATING"
        self.remind_me(after=DEADLINE)
        yield CancelShipment(shipment_id=shipment_of(self.id))


@saga(partitions=1)
class RecipientForgetting(Saga):
    """Forget the recipient, in every shipment to a person who is to be forgotten."""

    begins_with = PersonForgotten
    correlation = "person_id"

    def react(self, event: PersonForgotten) -> Iterator[Command]:
        self.state = "COMPLETED"
        yield ForgetRecipient(person_id=event.person_id)
