from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from eventing.admin import ReadOnlyAdmin
from eventing.list_filters import Days
from shipping.models import Consignment, ShipmentSummary, Status

LOOKS = {Status.REQUESTED: "warning", Status.CREATED: "info", Status.CANCELLED: "danger"} | dict.fromkeys(
    (Status.DISPATCHED, Status.DELIVERED), "success"
)


@admin.register(ShipmentSummary)
class ShipmentSummaryAdmin(ReadOnlyAdmin):
    list_display = ("shipment_id", "shown_status", "tracking_number", "order_id", "requested_at")
    list_filter = ("status", ("requested_at", Days))
    list_filter_submit = True
    list_per_page = 50
    ordering = ("-requested_at", "shipment_id")
    search_fields = ("=shipment_id", "=order_id", "=tracking_number")
    search_help_text = "Shipment, order or tracking number, each in full"
    page = "dashboard:shipment"

    @display(description="Status", ordering="status", label=LOOKS)
    def shown_status(self, shipment: ShipmentSummary) -> str:
        return shipment.status


@admin.register(Consignment)
class ConsignmentAdmin(ReadOnlyAdmin):
    list_display = ("tracking_number", "key", "asks", "booked_at", "voided_at")
    search_fields = ("=tracking_number", "=key")
