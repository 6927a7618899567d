"""Orders as their events tell them: what the read models show, without waiting for them, and at any version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from eventing.records import Record
from orders.events import ItemsReturned, OrderEvent, OrderPlaced
from orders.models import OrderLine, OrderSummary, ReturnedLine
from orders.projections import OrderLines, OrderSummaries, ReturnedLines


def as_told_by(records: Iterable[Record]) -> tuple[OrderSummary, list[OrderLine]]:
    """What the projections make of these events, without waiting for them."""
    order, lines = OrderSummary(), list[OrderLine]()
    for record in records:
        OrderSummaries().apply(order, cast(OrderEvent, record.event), record)
        if isinstance(record.event, OrderPlaced):
            order.order_id = record.event.order_id
            lines.extend(OrderLines().rows(record.event))
        elif isinstance(record.event, ItemsReturned):
            count_returned(lines, ReturnedLines().rows(record.event))
    return order, lines


def count_returned(lines: Sequence[OrderLine], returned: Iterable[ReturnedLine]) -> None:
    """Write down at each line how many of its units came back."""
    by_number = {line.number: line for line in lines}
    for back in returned:
        by_number[back.number].returned += back.quantity
