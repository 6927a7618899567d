"""What orders tells the world: mail to buyers who left an address."""

from __future__ import annotations

from django.core.mail import EmailMessage

from eventing import store
from eventing.domain import Event
from eventing.effects import Delivery, effect
from eventing.records import Record, Stream
from orders.events import (
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderPlaced,
    OrderShipped,
    OrderStatusChanged,
)

NEWS: dict[type[Event], tuple[str, str]] = {
    OrderPlaced: ("Placed", "We have your order, and are seeing to it."),
    OrderConfirmed: ("Confirmed", "Your order is confirmed: it is paid for, and will be on its way soon."),
    OrderCancelled: ("Cancelled", "Your order is cancelled. What you paid, if anything, goes back to you."),
    OrderShipped: ("Shipped", "Your order is on its way."),
    OrderDelivered: ("Delivered", "Your order has been delivered."),
}


@effect(queue="mail")
def tell_buyer(event: OrderStatusChanged, delivery: Delivery) -> None:
    """Ask what has become of the order, and write to its buyer. Who was forgotten meanwhile gets no mail, and a change
    that others have overtaken is left to their notifications.

    It asks the order's stream, which is never behind: a read model that is paused keeps no mail waiting."""
    records = list(store.read(Stream("order", str(event.order_id))))
    placed, changed = records[0].event, records[event.version - 1].event
    if not isinstance(placed, OrderPlaced) or placed.contact is None or _is_overtaken(event, records):
        return
    title, news = NEWS[type(changed)]
    named = f"Your order {placed.reference}" if placed.reference else "Your order"
    EmailMessage(
        subject=f"{named}: {title}",
        body=f"Dear {placed.contact.name},\n\n{news}\n\nOrder {event.order_id}\n",
        to=[placed.contact.email],
        headers={"Message-ID": f"<{delivery.record.id}@waybill>"},  # sent twice, it's the same mail
    ).send()


def _is_overtaken(event: OrderStatusChanged, records: list[Record]) -> bool:
    """Whether there's a newer notification, which says what this one would."""
    since = records[event.version + 1 :]  # after this notification itself
    return any(isinstance(record.event, OrderStatusChanged) for record in since)
