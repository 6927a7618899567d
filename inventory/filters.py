"""What lists of articles can be asked for."""

from __future__ import annotations

from eventing.filters import Filters, Named, Units
from inventory.models import StockLevel


class StockItemFilters(Filters):
    """Which articles are asked for."""

    sku = Named(help_text="This one, or several with commas between.")
    available_at_least = Units("available", lookup_expr="gte", help_text="Units that are free.")

    class Meta:
        model = StockLevel
        fields: list[str] = []
