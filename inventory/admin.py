from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from eventing.admin import ReadOnlyAdmin
from eventing.money import Money
from inventory.models import StockLevel


@admin.register(StockLevel)
class StockLevelAdmin(ReadOnlyAdmin):
    list_display = ("sku", "description", "list_price", "available", "reserved", "on_hand")
    search_fields = ("=sku", "description")
    search_help_text = "SKU in full, or a part of the description"
    ordering = ("sku",)
    page = "dashboard:stock-item"

    @display(description="List price")
    def list_price(self, item: StockLevel) -> str:
        return str(Money(minor=item.list_price_minor, currency=item.currency))
