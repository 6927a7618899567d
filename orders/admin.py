from __future__ import annotations

from django.contrib import admin

from eventing.admin import ReadOnlyAdmin
from orders.models import CustomerOrder, OrderSummary, Return


@admin.register(OrderSummary)
class OrderSummaryAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "reference", "status", "total_minor", "currency", "line_count", "units", "placed_at")
    list_filter = ("status",)
    search_fields = ("=order_id", "=customer_id", "=reference", "=contact_email")


@admin.register(CustomerOrder)
class CustomerOrderAdmin(ReadOnlyAdmin):
    list_display = ("customer_id", "reference", "status", "total_minor", "currency", "placed_at")
    list_filter = ("status",)
    search_fields = ("=customer_id", "=order_id")


@admin.register(Return)
class ReturnAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "return_id", "reason", "line_count", "units", "refund_minor", "currency", "returned_at")
    search_fields = ("=order_id", "=return_id", "reason")
