from __future__ import annotations

from django.contrib import admin

from eventing.admin import ReadOnlyAdmin
from shipping.models import Consignment, ShipmentSummary


@admin.register(ShipmentSummary)
class ShipmentSummaryAdmin(ReadOnlyAdmin):
    list_display = ("shipment_id", "order_id", "status", "tracking_number", "requested_at")
    list_filter = ("status",)
    search_fields = ("=shipment_id", "=order_id", "=tracking_number")


@admin.register(Consignment)
class ConsignmentAdmin(ReadOnlyAdmin):
    list_display = ("tracking_number", "key", "asks", "booked_at", "voided_at")
    search_fields = ("=tracking_number", "=key")
