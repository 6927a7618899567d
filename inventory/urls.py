from __future__ import annotations

from django.urls import path

from inventory import api

urlpatterns = [
    path("inventory/items", api.StockItems.as_view(), name="stock-items"),
    path("inventory/items/<str:sku>", api.StockItem.as_view(), name="stock-item"),
    path("inventory/items/<str:sku>/receive", api.Receipts.as_view(), name="stock-receipts"),
]
