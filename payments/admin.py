from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from eventing.admin import ReadOnlyAdmin
from eventing.list_filters import Days
from eventing.money import Money
from payments.models import GatewayEntry, PaymentSummary, Refund, Status

LOOKS = {
    Status.REQUESTED: "warning",
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
    Status.REFUNDING: "warning",
    Status.REFUNDED: "info",
}


@admin.register(PaymentSummary)
class PaymentSummaryAdmin(ReadOnlyAdmin):
    list_display = ("payment_id", "shown_status", "amount", "refunded", "method", "order_id", "requested_at")
    list_filter = ("status", ("requested_at", Days))
    list_filter_submit = True
    list_per_page = 50
    ordering = ("-requested_at", "payment_id")
    search_fields = ("=payment_id", "=order_id", "=charge_reference")
    search_help_text = "Payment, order or the gateway's reference, each in full"
    page = "dashboard:payment"

    @display(description="Status", ordering="status", label=LOOKS)
    def shown_status(self, payment: PaymentSummary) -> str:
        return payment.status

    @display(description="Amount")
    def amount(self, payment: PaymentSummary) -> str:
        return str(Money(minor=payment.amount_minor, currency=payment.currency))

    @display(description="Given back")
    def refunded(self, payment: PaymentSummary) -> str:
        return str(Money(minor=payment.refunded_minor, currency=payment.currency))


@admin.register(Refund)
class RefundAdmin(ReadOnlyAdmin):
    list_display = ("payment_id", "order_id", "refund_id", "amount_minor", "currency", "reference", "refunded_at")
    search_fields = ("=payment_id", "=order_id", "=refund_id", "=reference")


@admin.register(GatewayEntry)
class GatewayEntryAdmin(ReadOnlyAdmin):
    list_display = ("key", "kind", "outcome", "amount_minor", "currency", "method", "asks", "created_at")
    list_filter = ("kind", "outcome")
    search_fields = ("=key", "=reference", "=charge")
