"""Read models, which only projections write; and the simulated carrier's books, which only the carrier writes."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    REQUESTED = "requested"
    CREATED = "created"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class ShipmentSummary(models.Model):
    """A shipment in a list."""

    shipment_id = models.UUIDField(primary_key=True)
    order_id = models.UUIDField(db_index=True)
    status = models.TextField(choices=Status)
    tracking_number = models.TextField(default="", db_index=True)
    requested_at = models.DateTimeField()
    created_at = models.DateTimeField(null=True, help_text="When the carrier booked it.")
    cleared_at = models.DateTimeField(null=True, help_text="When it was free to leave, its order being confirmed.")
    dispatched_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    version = models.IntegerField(help_text="Events that this row has seen.")
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "shipment summaries"
        permissions = [("dispatch_shipment", "Can mark shipments as dispatched and as delivered")]
        ordering = ["-requested_at", "shipment_id"]
        indexes = [
            models.Index(fields=["-requested_at", "shipment_id"], name="shipping_summary_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.tracking_number or self.shipment_id}: {self.status}"


class Consignment(models.Model):
    """What the simulated carrier booked for one idempotency key: its own record, to be compared with ours."""

    key = models.TextField(primary_key=True)
    tracking_number = models.TextField(unique=True)
    asks = models.IntegerField(help_text="How often this was asked for.")
    booked_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-booked_at", "key"]

    def __str__(self) -> str:
        return f"{self.tracking_number}{' (void)' if self.voided_at else ''}"
