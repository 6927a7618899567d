from __future__ import annotations

from django.urls import path

from config.dashboard import orders, payments, shipments, stock
from config.dashboard.home import Home

app_name = "dashboard"
urlpatterns = [
    path("", Home.as_view(), name="home"),
    path("operations/orders/<uuid:order_id>/", orders.OrderPage.as_view(), name="order"),
    path("operations/orders/<uuid:order_id>/cancel/", orders.CancelAnOrder.as_view(), name="order-cancel"),
    path("operations/orders/<uuid:order_id>/return/", orders.ReturnSomeItems.as_view(), name="order-return"),
    path("operations/orders/<uuid:order_id>/dispatch/", orders.DispatchIt.as_view(), name="order-dispatch"),
    path("operations/orders/<uuid:order_id>/deliver/", orders.DeliverIt.as_view(), name="order-deliver"),
    path("operations/orders/<uuid:order_id>/retry/", orders.RetryItsLetters.as_view(), name="order-retry"),
    path("operations/payments/<uuid:payment_id>/", payments.PaymentPage.as_view(), name="payment"),
    path("operations/shipments/<uuid:shipment_id>/", shipments.ShipmentPage.as_view(), name="shipment"),
    path("operations/inventory/<path:sku>/", stock.StockPage.as_view(), name="stock-item"),
]
