"""Shipments as clients read them."""

from __future__ import annotations

from rest_framework import serializers

from shipping.models import ShipmentSummary


class ShipmentSerializer(serializers.ModelSerializer[ShipmentSummary]):
    """The parcel of one order."""

    class Meta:
        model = ShipmentSummary
        fields = [
            "shipment_id",
            "order_id",
            "status",
            "tracking_number",
            "requested_at",
            "created_at",
            "cleared_at",
            "dispatched_at",
            "delivered_at",
            "cancelled_at",
            "version",
        ]
        read_only_fields = fields
