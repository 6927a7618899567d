from __future__ import annotations

from django.urls import path

from shipping import api, webhook_api

urlpatterns = [
    path("shipments", api.Shipments.as_view(), name="shipments"),
    path("shipments/webhooks/<slug:provider>", webhook_api.CarrierWebhook.as_view(), name="carrier-webhook"),
    path("shipments/<uuid:shipment_id>", api.Shipment.as_view(), name="shipment"),
]
