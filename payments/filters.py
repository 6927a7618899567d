"""What lists of payments can be asked for."""

from __future__ import annotations

from django_filters import rest_framework as filters

from eventing.filters import Filters, Moment, OneOf
from payments.models import PaymentSummary, Status


class PaymentFilters(Filters):
    """Which payments are asked for."""

    status = OneOf(choices=Status.choices, help_text="One of these, or several with commas between.")
    order = filters.UUIDFilter("order_id", help_text="The payment of this order.")
    requested_after = Moment("requested_at", lookup_expr="gte", help_text="At this time or later.")
    requested_before = Moment("requested_at", lookup_expr="lt", help_text="Before this time.")

    class Meta:
        model = PaymentSummary
        fields: list[str] = []
