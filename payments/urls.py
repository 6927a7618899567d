from __future__ import annotations

from django.urls import path

from payments import api, webhook_api

urlpatterns = [
    path("payments", api.Payments.as_view(), name="payments"),
    path("payments/webhooks/<slug:provider>", webhook_api.GatewayWebhook.as_view(), name="gateway-webhook"),
    path("payments/<uuid:payment_id>", api.Payment.as_view(), name="payment"),
    path("payments/<uuid:payment_id>/refunds", api.Refunds.as_view(), name="payment-refunds"),
    path("payments/<uuid:payment_id>/refunds/<uuid:refund_id>", api.Refund.as_view(), name="payment-refund"),
]
