"""Read models: what the log says about stock, for lists and pages. Only projections write them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class StockLevel(models.Model):
    """An article, and how many units of it are in the house, promised to orders, and free."""

    sku = models.TextField(primary_key=True)
    description = models.TextField()
    currency = models.CharField(max_length=3)
    list_price_minor = models.BigIntegerField()
    on_hand = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    available = models.GeneratedField(
        expression=F("on_hand") - F("reserved"), output_field=models.BigIntegerField(), db_persist=True
    )
    version = models.IntegerField(help_text="Events that this row has seen.")
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["sku"]
        constraints = [
            models.CheckConstraint(condition=Q(on_hand__gte=0), name="inventory_on_hand_not_negative"),
            models.CheckConstraint(condition=Q(reserved__gte=0), name="inventory_reserved_not_negative"),
            models.CheckConstraint(condition=Q(on_hand__gte=F("reserved")), name="inventory_available_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.sku}: {self.available} of {self.on_hand} available"
