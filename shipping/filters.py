"""What lists of shipments can be asked for."""

from __future__ import annotations

from django_filters import rest_framework as filters

from eventing.filters import Filters, Moment, OneOf
from shipping.models import ShipmentSummary, Status


class ShipmentFilters(Filters):
    """Which shipments are asked for."""

    status = OneOf(choices=Status.choices, help_text="One of these, or several with commas between.")
    order = filters.UUIDFilter("order_id", help_text="The shipment of this order.")
    tracking_number = filters.CharFilter(strip=False, max_length=64, help_text="The shipment with exactly this number.")
    requested_after = Moment("requested_at", lookup_expr="gte", help_text="At this time or later.")
    requested_before = Moment("requested_at", lookup_expr="lt", help_text="Before this time.")

    class Meta:
        model = ShipmentSummary
        fields: list[str] = []
