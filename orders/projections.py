from __future__ import annotations

from collections.abc import Iterator

from eventing.contact import Contact
from eventing.projections import Listing, Projection
from eventing.records import Record
from inventory.events import StockItemListed
from orders.events import (
    BuyerForgotten,
    ItemsReturned,
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderEvent,
    OrderPlaced,
    OrderShipped,
    OrderStatusChanged,
)
from orders.models import Article, CustomerOrder, OrderLine, OrderSummary, Return, ReturnedLine, Status


class OrderSummaries(Projection[OrderSummary]):
    """One row an order, as the order list shows it."""

    key = "order_id"

    def apply(self, row: OrderSummary, event: OrderEvent, record: Record) -> None:
        row.version, row.updated_at = record.version, record.recorded_at
        match event:
            case OrderPlaced():
                row.status = Status.PLACED
                row.reference, row.customer_id = event.reference, event.customer_id
                row.currency, row.total_minor = event.total.currency, event.total.minor
                row.line_count, row.units = len(event.lines), sum(line.quantity for line in event.lines)
                row.payment_method = event.payment_method
                row.placed_at, row.placed_recorded_at = record.occurred_at, record.recorded_at
                _show(event.contact, row)
            case OrderConfirmed():
                row.status = Status.CONFIRMED
                row.confirmed_at, row.confirmed_recorded_at = record.occurred_at, record.recorded_at
            case OrderCancelled():
                row.status, row.cancellation_reason = Status.CANCELLED, event.reason
                row.cancelled_at, row.cancelled_recorded_at = record.occurred_at, record.recorded_at
            case OrderShipped():
                row.status, row.shipped_at = Status.SHIPPED, record.occurred_at
            case OrderDelivered():
                row.status, row.delivered_at = Status.DELIVERED, record.occurred_at
            case ItemsReturned():
                row.returned_units += sum(line.quantity for line in event.lines)
                row.refunded_minor += event.refund.minor
            case BuyerForgotten():
                row.buyer_forgotten_at = record.occurred_at
                _show(None, row)
            case OrderStatusChanged():
                pass  # says nothing that isn't here already


def _show(contact: Contact | None, row: OrderSummary) -> None:
    shown = contact or Contact(name="")
    row.contact_name, row.contact_email, row.contact_phone = shown.name, shown.email, shown.phone
    row.contact_street, row.contact_postcode = shown.street, shown.postcode
    row.contact_city, row.contact_country = shown.city, shown.country


class OrderLines(Listing[OrderLine]):
    """The lines of every order, as they were placed."""

    key = "order_id"

    def rows(self, event: OrderPlaced) -> Iterator[OrderLine]:
        for number, line in enumerate(event.lines, 1):
            yield OrderLine(
                order_id=event.order_id,
                number=number,
                sku=line.sku,
                description=line.description,
                quantity=line.quantity,
                currency=line.unit_price.currency,
                unit_price_minor=line.unit_price.minor,
            )


class CustomerOrders(Projection[CustomerOrder]):
    """One row an order, as its customer's list shows it."""

    key = "order_id"

    def apply(self, row: CustomerOrder, event: OrderEvent, record: Record) -> None:
        match event:
            case OrderPlaced():
                row.status = Status.PLACED
                row.reference, row.customer_id = event.reference, event.customer_id
                row.currency, row.total_minor = event.total.currency, event.total.minor
                row.placed_at = record.occurred_at
            case OrderConfirmed():
                row.status = Status.CONFIRMED
            case OrderCancelled():
                row.status = Status.CANCELLED
            case OrderShipped():
                row.status = Status.SHIPPED
            case OrderDelivered():
                row.status = Status.DELIVERED
            case ItemsReturned() | BuyerForgotten() | OrderStatusChanged():
                pass  # the customer's own list shows what was ordered, and doesn't say who the customer is


class Returns(Listing[Return]):
    """One row a return."""

    key = "order_id"

    def rows(self, event: ItemsReturned, record: Record) -> Iterator[Return]:
        yield Return(
            id=record.id,
            order_id=event.order_id,
            return_id=event.return_id,
            reason=event.reason,
            line_count=len(event.lines),
            units=sum(line.quantity for line in event.lines),
            currency=event.refund.currency,
            refund_minor=event.refund.minor,
            returned_at=record.occurred_at,
            recorded_at=record.recorded_at,
        )


class ReturnedLines(Listing[ReturnedLine]):
    """The lines of every return."""

    key = "order_id"

    def rows(self, event: ItemsReturned) -> Iterator[ReturnedLine]:
        for line in event.lines:
            yield ReturnedLine(
                order_id=event.order_id,
                return_id=event.return_id,
                number=line.number,
                sku=line.sku,
                quantity=line.quantity,
                currency=line.unit_price.currency,
                unit_price_minor=line.unit_price.minor,
            )


class Articles(Projection[Article]):
    """The articles that can be ordered, at their prices: our own copy of what inventory lists."""

    key = "sku"

    def apply(self, row: Article, event: StockItemListed) -> None:
        row.description = event.description
        row.currency, row.price_minor = event.list_price.currency, event.list_price.minor
