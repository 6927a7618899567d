from __future__ import annotations

from django.contrib import admin

from eventing.admin import ReadOnlyAdmin
from payments.models import GatewayEntry, PaymentSummary, Refund


@admin.register(PaymentSummary)
class PaymentSummaryAdmin(ReadOnlyAdmin):
    list_display = ("payment_id", "order_id", "status", "amount_minor", "refunded_minor", "currency", "requested_at")
    list_filter = ("status",)
    search_fields = ("=payment_id", "=order_id", "=charge_reference")


@admin.register(Refund)
class RefundAdmin(ReadOnlyAdmin):
    list_display = ("payment_id", "order_id", "refund_id", "amount_minor", "currency", "reference", "refunded_at")
    search_fields = ("=payment_id", "=order_id", "=refund_id", "=reference")


@admin.register(GatewayEntry)
class GatewayEntryAdmin(ReadOnlyAdmin):
    list_display = ("key", "kind", "outcome", "amount_minor", "currency", "method", "asks", "created_at")
    list_filter = ("kind", "outcome")
    search_fields = ("=key", "=reference", "=charge")
