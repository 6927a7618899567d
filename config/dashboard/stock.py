"""An article's page: how much of it there is, and how that came about, order by order."""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.http import Http404
from django.shortcuts import get_object_or_404

from config.dashboard.sentences import sentence
from eventing import store
from eventing.money import Money
from eventing.operations.page import Page
from eventing.records import Record, Stream
from inventory.events import StockAdjusted, StockItemListed, StockReceived, StockReleased, StockReserved, StockShipped
from inventory.models import StockLevel

A_PAGE = 50
LONGEST_NUMBER = 9  # digits of a version


class Moved(NamedTuple):
    """One event of the article: what it says, what it did to the three numbers, and for which order."""

    record: Record
    says: str
    on_hand: str
    reserved: str
    order_id: UUID | None


class StockPage(Page):
    """One article: ``before`` is the version that its history is shown from, back."""

    permission_required = "inventory.view_stocklevel"
    template_name, fragment = "operations/stock_item.html", "operations/_stock_item.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        item = get_object_or_404(StockLevel, sku=kwargs["sku"])
        before = self.request.GET.get("before", "")
        if before and not (before.isdecimal() and len(before) <= LONGEST_NUMBER and 1 <= int(before) < store.LATEST):
            raise Http404(f"{before[:20]!r} is no version of this article.")
        start = int(before) - 1 if before else None
        stream = Stream("stock", item.sku)
        found = (
            [] if start == 0 else list(islice(store.read(stream, start=start, backwards=True, chunk=A_PAGE), A_PAGE))
        )
        return super().get_context_data(
            item=item,
            price=Money(minor=item.list_price_minor, currency=item.currency),
            history=[moved(record) for record in found],
            newest=not before,
            older=found[-1].version if found and found[-1].version > 1 else 0,
            **{**kwargs, "title": f"{item.sku}: {item.description}" if item.description else item.sku},
        )


def moved(record: Record) -> Moved:
    """What an event did to the article."""
    match record.event:
        case StockItemListed() as event:
            return Moved(record, f"Listed as “{event.description}” at {event.list_price}", "", "", None)
        case StockReceived() as event:
            named = f" with {event.reference}" if event.reference else ""
            return Moved(record, f"{event.quantity:,} received{named}", f"+{event.quantity:,}", "", None)
        case StockAdjusted() as event:
            named = f" by {event.reference}" if event.reference else ""
            return Moved(record, f"Adjusted{named}: {event.reason}", f"{event.change:+,}", "", None)
        case StockReserved() as event:
            return Moved(record, f"{event.quantity:,} reserved", "", f"+{event.quantity:,}", event.order_id)
        case StockReleased() as event:
            return Moved(record, f"{event.quantity:,} released", "", f"-{event.quantity:,}", event.order_id)
        case StockShipped() as event:
            units = f"-{event.quantity:,}"
            return Moved(record, f"{event.quantity:,} shipped", units, units, event.order_id)
        case event:
            return Moved(record, sentence(event), "", "", None)
