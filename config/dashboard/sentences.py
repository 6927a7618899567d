"""Says what happened, for people: a sentence an event."""

from __future__ import annotations

from eventing.domain import Event
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationCommitted,
    ReservationReleased,
)
from orders.events import (
    BuyerForgotten,
    ItemsReturned,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderPlaced,
    OrderShipped,
    OrderStatusChanged,
)
from payments.events import PaymentCompleted, PaymentFailed, PaymentRefunded, PaymentRequested, RefundRequested
from shipping.events import (
    BookingDiscarded,
    RecipientForgotten,
    ShipmentCancelled,
    ShipmentCleared,
    ShipmentCreated,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentRequested,
)


def sentence(event: Event) -> str:
    """What an event says, for people. Others than these are said by their names."""
    match event:
        case OrderPlaced():
            return f"Order placed: {_lines(len(event.lines))}"
        case OrderConfirmed():
            return "Order confirmed"
        case OrderCancelled():
            return f"Order cancelled: {event.reason}"
        case OrderShipped():
            return "Order shipped"
        case OrderDelivered():
            return "Order delivered"
        case ItemsReturned():
            return f"Goods came back: {_lines(len(event.lines))}, {event.reason}"
        case OrderStatusChanged():
            return f"Status changed, at version {event.version}"
        case BuyerForgotten():
            return "Who bought it was forgotten"
        case PaymentRequested():
            return f"Payment requested with {event.method}"
        case PaymentCompleted():
            return "Paid" if event.reference else "Nothing to pay"
        case PaymentFailed():
            return f"Payment failed: {event.message}"
        case RefundRequested():
            return f"Refund requested: {event.reason}" if event.reason else "Refund requested"
        case PaymentRefunded():
            return "Money given back"
        case InventoryReserved():
            return f"Stock reserved: {articles(len(event.lines))}"
        case InventoryReservationFailed():
            short = ", ".join(
                f"{each.sku} ({each.wanted:,} wanted, {each.available:,} there)" for each in event.shortages
            )
            return f"Out of stock: {short}"
        case ReservationReleased():
            return "Reservation released"
        case ReservationCommitted():
            return "Reserved stock has left the house"
        case ShipmentRequested():
            return "Shipment requested"
        case ShipmentCreated():
            return f"Carrier booked {event.tracking_number}"
        case ShipmentCleared():
            return "Shipment cleared: it may leave"
        case ShipmentDispatched():
            return "Shipment dispatched"
        case ShipmentDelivered():
            return "Shipment delivered"
        case ShipmentCancelled():
            return "Shipment cancelled"
        case BookingDiscarded():
            return f"Booking {event.tracking_number} discarded: the shipment was cancelled"
        case RecipientForgotten():
            return "Who it goes to was forgotten"
        case _:
            return words(event.stored_name)


def words(stored_name: str) -> str:
    """A stored name as words: "orders.order_placed" is "Order placed"."""
    return stored_name.rpartition(".")[2].replace("_", " ").capitalize()


def articles(count: int) -> str:
    return f"{count:,} {'article' if count == 1 else 'articles'}"


def _lines(count: int) -> str:
    return f"{count:,} {'line' if count == 1 else 'lines'}"
