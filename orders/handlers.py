from __future__ import annotations

from django.conf import settings

from eventing import store
from eventing.handlers import handles
from orders.aggregates import Order
from orders.commands import (
    CancelOrder,
    ConfirmOrder,
    ForgetBuyer,
    MarkOrderDelivered,
    MarkOrderShipped,
    PlaceOrder,
    ReturnItems,
)
from orders.events import Fulfilment


@handles
def place_order(command: PlaceOrder) -> None:
    with store.edit(Order, command.order_id) as order:
        order.place(
            command.customer_id,
            command.lines,
            command.reference,
            command.payment_method,
            command.contact,
            command.fulfilment or Fulfilment(settings.FULFILMENT),
        )


@handles
def confirm_order(command: ConfirmOrder) -> None:
    with store.edit(Order, command.order_id) as order:
        order.confirm()


@handles
def cancel_order(command: CancelOrder) -> None:
    with store.edit(Order, command.order_id) as order:
        order.cancel(command.reason)


@handles
def mark_order_shipped(command: MarkOrderShipped) -> None:
    with store.edit(Order, command.order_id) as order:
        order.mark_shipped()


@handles
def mark_order_delivered(command: MarkOrderDelivered) -> None:
    with store.edit(Order, command.order_id) as order:
        order.mark_delivered()


@handles
def return_items(command: ReturnItems) -> None:
    with store.edit(Order, command.order_id) as order:
        order.return_items(command.return_id, command.lines, command.reason)


@handles
def forget_buyer(command: ForgetBuyer) -> None:
    with store.edit_all(Order, store.ids_of_person(Order, command.person_id)) as orders:
        for order in orders.values():
            order.forget_buyer()
