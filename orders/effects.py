"""What orders tells the world: mail to buyers who left an address."""

from __future__ import annotations

from django.core.mail import EmailMessage

from eventing import store
from eventing.effects import Delivery, effect
from eventing.records import Stream
from orders.events import OrderStatusChanged
from orders.models import OrderSummary, Status

NEWS = {
    Status.PLACED: "We have your order, and are seeing to it.",
    Status.CONFIRMED: "Your order is confirmed: it is paid for, and will be on its way soon.",
    Status.CANCELLED: "Your order is cancelled. What you paid, if anything, goes back to you.",
    Status.SHIPPED: "Your order is on its way.",
    Status.DELIVERED: "Your order has been delivered.",
}


class NotYetVisible(Exception):
    """The read model hasn't come as far as the notification. It will."""


@effect(queue="mail")
def tell_buyer(event: OrderStatusChanged, delivery: Delivery) -> None:
    """Ask what has become of the order, and write to its buyer. Who was forgotten meanwhile gets no mail, and a change
    that others have overtaken is left to their notifications."""
    order = OrderSummary.objects.filter(pk=event.order_id, version__gte=event.version).first()
    if order is None:
        raise NotYetVisible(f"The read model doesn't show version {event.version} of order {event.order_id} yet.")
    if not order.contact_email or _is_overtaken(event):
        return
    named = f"Your order {order.reference}" if order.reference else "Your order"
    EmailMessage(
        subject=f"{named}: {order.get_status_display()}",
        body=f"Dear {order.contact_name},\n\n{NEWS[Status(order.status)]}\n\nOrder {order.order_id}\n",
        to=[order.contact_email],
        headers={"Message-ID": f"<{delivery.record.id}@waybill>"},  # sent twice, it's the same mail
    ).send()


def _is_overtaken(event: OrderStatusChanged) -> bool:
    """Whether there's a newer notification, which says what this one would."""
    since = store.read(Stream("order", str(event.order_id)), start=event.version + 2)  # after this notification itself
    return any(isinstance(record.event, OrderStatusChanged) for record in since)
