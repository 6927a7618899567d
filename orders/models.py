"""Read models: what the log says about orders, for lists and pages. Only projections write them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Upper


class Status(models.TextChoices):
    PLACED = "placed"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    SHIPPED = "shipped"
    DELIVERED = "delivered"


class OrderSummary(models.Model):
    """An order in a list. Times are when it happened; ``*_recorded_at`` when the log learnt of it, which differs
    for orders that are imported."""

    order_id = models.UUIDField(primary_key=True)
    reference = models.TextField(db_index=True)
    customer_id = models.UUIDField(null=True)
    status = models.TextField(choices=Status)
    currency = models.CharField(max_length=3)
    total_minor = models.BigIntegerField()
    line_count = models.IntegerField()
    units = models.BigIntegerField()
    returned_units = models.BigIntegerField(default=0, db_default=0)
    refunded_minor = models.BigIntegerField(
        default=0, db_default=0, help_text="What was paid for the units that came back."
    )
    payment_method = models.TextField()
    contact_name = models.TextField(default="", db_default="")
    contact_email = models.TextField(default="", db_default="")
    contact_phone = models.TextField(default="", db_default="")
    contact_street = models.TextField(default="", db_default="")
    contact_postcode = models.TextField(default="", db_default="")
    contact_city = models.TextField(default="", db_default="")
    contact_country = models.TextField(default="", db_default="")
    placed_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    shipped_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    placed_recorded_at = models.DateTimeField()
    confirmed_recorded_at = models.DateTimeField(null=True)
    cancelled_recorded_at = models.DateTimeField(null=True)
    cancellation_reason = models.TextField(default="")
    buyer_forgotten_at = models.DateTimeField(null=True, help_text="When who bought it was forgotten.")
    version = models.IntegerField(help_text="Events that this row has seen.")
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "order summaries"
        permissions = [
            ("cancel_order", "Can cancel orders"),
            ("return_items", "Can register that goods of an order came back"),
        ]
        ordering = ["-placed_at", "order_id"]
        indexes = [
            models.Index(fields=["-placed_at", "order_id"], name="orders_summary_newest"),
            models.Index(fields=["placed_recorded_at"], name="orders_summary_recorded"),
            models.Index(fields=["status", "order_id"], name="orders_summary_status"),
            models.Index(fields=["customer_id", "order_id"], name="orders_summary_customer"),
            models.Index(
                Upper("contact_email"),
                condition=~models.Q(contact_email=""),
                name="orders_summary_email",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference or self.order_id}: {self.status}"


class OrderLine(models.Model):
    """One line of an order, numbered from 1 as it was placed."""

    pk = models.CompositePrimaryKey("order_id", "number")
    order_id = models.UUIDField()
    number = models.IntegerField()
    sku = models.TextField(db_index=True)
    description = models.TextField()
    quantity = models.IntegerField()
    currency = models.CharField(max_length=3)
    unit_price_minor = models.BigIntegerField()

    returned = 0  # units that came back: no column, so that lines are never changed; whoever shows them counts

    class Meta:
        ordering = ["order_id", "number"]

    def __str__(self) -> str:
        return f"{self.order_id} {self.number}: {self.quantity} of {self.sku}"


class Return(models.Model):
    """Goods of an order that came back together."""

    id = models.UUIDField(primary_key=True, help_text="The event's.")
    order_id = models.UUIDField()
    return_id = models.UUIDField(db_index=True, help_text="Its name within the order.")
    reason = models.TextField()
    line_count = models.IntegerField()
    units = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    refund_minor = models.BigIntegerField()
    returned_at = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["-returned_at", "id"]
        constraints = [models.UniqueConstraint(fields=["order_id", "return_id"], name="orders_return_once")]
        indexes = [models.Index(fields=["-returned_at", "id"], name="orders_return_newest")]

    def __str__(self) -> str:
        return f"{self.order_id}: {self.units} units, {self.reason}"


class ReturnedLine(models.Model):
    """Units of one line of an order that came back with a return."""

    pk = models.CompositePrimaryKey("order_id", "return_id", "number")
    order_id = models.UUIDField()
    return_id = models.UUIDField()
    number = models.IntegerField()
    sku = models.TextField(db_index=True)
    quantity = models.IntegerField()
    currency = models.CharField(max_length=3)
    unit_price_minor = models.BigIntegerField()

    class Meta:
        ordering = ["order_id", "return_id", "number"]

    def __str__(self) -> str:
        return f"{self.order_id} {self.number}: {self.quantity} of {self.sku} back"


class Article(models.Model):
    """An article and its list price, as inventory last told them: so nobody asks inventory what an order costs."""

    sku = models.TextField(primary_key=True)
    description = models.TextField()
    currency = models.CharField(max_length=3)
    price_minor = models.BigIntegerField()

    class Meta:
        ordering = ["sku"]

    def __str__(self) -> str:
        return f"{self.sku}: {self.description}"


class CustomerOrder(models.Model):
    """An order in its customer's list, newest first. Orders of guests have no customer."""

    order_id = models.UUIDField(primary_key=True)
    customer_id = models.UUIDField(null=True)
    reference = models.TextField()
    status = models.TextField(choices=Status)
    currency = models.CharField(max_length=3)
    total_minor = models.BigIntegerField()
    placed_at = models.DateTimeField()

    class Meta:
        ordering = ["-placed_at", "order_id"]
        indexes = [
            models.Index(
                fields=["customer_id", "-placed_at", "order_id"],
                condition=models.Q(customer_id__isnull=False),
                name="orders_customer_newest",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.reference or self.order_id}"
