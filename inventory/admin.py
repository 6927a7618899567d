from __future__ import annotations

from django.contrib import admin

from eventing.admin import ReadOnlyAdmin
from inventory.models import StockLevel


@admin.register(StockLevel)
class StockLevelAdmin(ReadOnlyAdmin):
    list_display = ("sku", "description", "list_price_minor", "currency", "on_hand", "reserved", "available")
    search_fields = ("=sku", "description")
