"""What lists of orders can be asked for."""

from __future__ import annotations

from django_filters import rest_framework as filters

from eventing.filters import Filters, Moment, OneOf
from orders.models import OrderSummary, Status


class OrderFilters(Filters):
    """Which orders are asked for."""

    status = OneOf(choices=Status.choices, help_text="One of these, or several with commas between.")
    customer = filters.UUIDFilter("customer_id", help_text="Orders of this customer.")
    reference = filters.CharFilter(strip=False, max_length=255, help_text="Orders with exactly this reference.")
    placed_after = Moment("placed_at", lookup_expr="gte", help_text="Placed at this time or later.")
    placed_before = Moment("placed_at", lookup_expr="lt", help_text="Placed before this time.")

    class Meta:
        model = OrderSummary
        fields: list[str] = []
