"""Payments as clients read them, and refunds as they write them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from eventing.api import Identifier, MoneySerializer, Strict, Text
from payments.commands import LONGEST_REASON
from payments.models import PaymentSummary


class PaymentSerializer(serializers.ModelSerializer[PaymentSummary]):
    """The money for one order."""

    amount = serializers.SerializerMethodField()
    refunding = serializers.SerializerMethodField(help_text="On its way back.")
    refunded = serializers.SerializerMethodField()

    class Meta:
        model = PaymentSummary
        fields = [
            "payment_id",
            "order_id",
            "status",
            "amount",
            "refunding",
            "refunded",
            "method",
            "charge_reference",
            "decline_code",
            "decline_message",
            "requested_at",
            "settled_at",
            "refunded_at",
            "version",
        ]
        read_only_fields = fields

    @extend_schema_field(MoneySerializer)
    def get_amount(self, payment: PaymentSummary) -> dict[str, Any]:
        return {"amount": payment.amount_minor, "currency": payment.currency}

    @extend_schema_field(MoneySerializer)
    def get_refunding(self, payment: PaymentSummary) -> dict[str, Any]:
        return {"amount": payment.refunding_minor, "currency": payment.currency}

    @extend_schema_field(MoneySerializer)
    def get_refunded(self, payment: PaymentSummary) -> dict[str, Any]:
        return {"amount": payment.refunded_minor, "currency": payment.currency}


class RequestRefundSerializer(Strict):
    """Money to be given back. Without an `amount` it's all that hasn't been given back yet."""

    refund_id = Identifier(required=False, help_text="Yours, or a new one of ours.")
    amount = MoneySerializer(required=False)
    reason = Text(max_length=LONGEST_REASON, help_text="Why, for whoever looks at the payment later.")


class RefundSerializer(serializers.Serializer[Any]):
    """Money on its way back, or back. `reference` is the gateway's, once it's there."""

    payment_id = serializers.UUIDField()
    refund_id = serializers.UUIDField()
    amount = MoneySerializer()
    reason = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(["requested", "refunded"])
    reference = serializers.CharField(allow_blank=True)
