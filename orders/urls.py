from __future__ import annotations

from django.urls import path

from orders import api, bulk_api

urlpatterns = [
    path("orders", api.Orders.as_view(), name="orders"),
    path("orders/bulk", bulk_api.OrdersInBulk.as_view(), name="orders-in-bulk"),
    path("orders/<uuid:order_id>", api.Order.as_view(), name="order"),
    path("orders/<uuid:order_id>/history", api.OrderHistory.as_view(), name="order-history"),
    path("orders/<uuid:order_id>/stream", api.OrderStream.as_view(), name="order-stream"),
    path("orders/<uuid:order_id>/cancel", api.OrderCancellation.as_view(), name="order-cancellation"),
    path("orders/<uuid:order_id>/returns", api.OrderReturns.as_view(), name="order-returns"),
]
