"""Read models, which only projections write; and the simulated gateway's ledger, which only the gateway writes."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Status(models.TextChoices):
    REQUESTED = "requested"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDING = "refunding"
    REFUNDED = "refunded"


class PaymentSummary(models.Model):
    """A payment in a list. Amounts are in minor units; references are the gateway's."""

    payment_id = models.UUIDField(primary_key=True)
    order_id = models.UUIDField(db_index=True)
    status = models.TextField(choices=Status)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    refunding_minor = models.BigIntegerField(
        default=0, db_default=0, help_text="Asked to be given back, and not there yet."
    )
    refunded_minor = models.BigIntegerField(default=0)
    method = models.TextField(default="")
    charge_reference = models.TextField(default="", db_index=True)
    refund_reference = models.TextField(default="", help_text="The latest refund's.")
    decline_code = models.TextField(default="")
    decline_message = models.TextField(default="")
    requested_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, help_text="When it was completed or failed.")
    refunded_at = models.DateTimeField(null=True)
    version = models.IntegerField(help_text="Events that this row has seen.")
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "payment summaries"
        permissions = [("refund_payment", "Can give money back")]
        ordering = ["-requested_at", "payment_id"]
        indexes = [
            models.Index(fields=["-requested_at", "payment_id"], name="payments_summary_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.payment_id}: {self.status}"


class Refund(models.Model):
    """Money that was given back, all of a payment or a part. ``refund_id`` is the return's for goods that came back,
    and None otherwise."""

    id = models.UUIDField(primary_key=True, help_text="The event's.")
    payment_id = models.UUIDField(db_index=True)
    order_id = models.UUIDField(db_index=True)
    refund_id = models.UUIDField(null=True)
    reference = models.TextField(db_index=True, help_text="The gateway's; empty when there was nothing to give back.")
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    refunded_at = models.DateTimeField()

    class Meta:
        ordering = ["-refunded_at", "id"]
        indexes = [models.Index(fields=["-refunded_at", "id"], name="payments_refund_newest")]

    def __str__(self) -> str:
        return f"{self.payment_id}: {self.reference}"


class GatewayEntry(models.Model):
    """What the simulated gateway did for one idempotency key: its own record, to be compared with ours."""

    class Kind(models.TextChoices):
        CHARGE = "charge"
        REFUND = "refund"

    class Outcome(models.TextChoices):
        SUCCEEDED = "succeeded"
        DECLINED = "declined"
        LOST = "lost", "lost on the way"

    key = models.TextField(primary_key=True)
    kind = models.TextField(choices=Kind)
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    method = models.TextField()
    charge = models.TextField(db_index=True, help_text="The charge that a refund gives back.")
    outcome = models.TextField(choices=Outcome)
    reference = models.TextField(db_index=True)
    code = models.TextField(help_text="Why it was declined.")
    asks = models.IntegerField(help_text="How often this was asked for.")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "gateway ledger entry"
        verbose_name_plural = "gateway ledger"
        ordering = ["-created_at", "key"]
        constraints = [
            models.CheckConstraint(condition=models.Q(amount_minor__gt=0), name="payments_gateway_amount_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}: {self.outcome}"


class GatewayNotice(models.Model):
    """What the simulated gateway is going to tell of its own accord, by a webhook, and how often it has."""

    key = models.TextField(unique=True, help_text="Of the ledger entry.")
    body = models.BinaryField()
    times = models.SmallIntegerField(help_text="How often it's to be told.")
    sent = models.SmallIntegerField(default=0)
    due_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.key}: told {self.sent} of {self.times} times"


class GatewayOutage(models.Model):
    """While there's a row, the simulated gateway answers nobody."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    message = models.TextField()
    since = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="payments_gateway_outage_one")]

    def __str__(self) -> str:
        return f"{self.message} since {self.since:%Y-%m-%d %H:%M}"
