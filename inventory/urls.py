from __future__ import annotations

from django.urls import path

from inventory import api

urlpatterns = [
    path("inventory/items", api.StockItems.as_view(), name="stock-items"),
    path("inventory/items/<str:sku>", api.StockItem.as_view(), name="stock-item"),
    path("inventory/items/<str:sku>/availability", api.Availability.as_view(), name="stock-availability"),
    path("inventory/items/<str:sku>/adjust", api.Adjustments.as_view(), name="stock-adjustments"),
    path("inventory/items/<str:sku>/price", api.ListPrice.as_view(), name="stock-price"),
    path("inventory/items/<str:sku>/receive", api.Receipts.as_view(), name="stock-receipts"),
]
