from __future__ import annotations

from django.db import models


class Balance(models.Model):
    """An account as its owner sees it."""

    account_id = models.UUIDField(primary_key=True)
    owner = models.TextField()
    amount = models.IntegerField(default=0)
    payments = models.IntegerField(default=0)
    version = models.IntegerField(default=0)
    closed = models.BooleanField(default=False)

    class Meta:
        app_label = "bank"

    def __str__(self) -> str:
        return f"{self.owner}: {self.amount}"


class Entry(models.Model):
    """A line of an account's statement."""

    account_id = models.UUIDField()
    amount = models.IntegerField()

    class Meta:
        app_label = "bank"

    def __str__(self) -> str:
        return f"{self.account_id}: {self.amount}"
