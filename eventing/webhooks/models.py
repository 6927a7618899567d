"""Endpoints, the secrets they're signed with, and what each of them is sent."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class WebhookEndpoint(models.Model):
    """An address that hears of events, on behalf of an account."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhook_endpoints")
    url = models.TextField()
    description = models.TextField(default="", db_default="", blank=True)
    event_types = ArrayField(models.TextField(), null=True, help_text="Stored names of events; null is all.")
    after_position = models.BigIntegerField(help_text="It hears of the events behind this position of the log.")
    enabled = models.BooleanField(default=True, db_default=True)
    disabled_reason = models.TextField(default="", db_default="")
    disabled_at = models.DateTimeField(null=True)
    troubles = models.IntegerField(default=0, db_default=0, help_text="Attempts in a row that failed or took long.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "eventing_webhook_endpoint"
        permissions = [("manage_webhooks", "Can have webhooks, and see to their deliveries")]

    def __str__(self) -> str:
        return f"{self.id} to {self.url}"

    def hears_of(self, event_type: str, position: int) -> bool:
        """Whether it asked for events of this type, and was there before this one was published."""
        return position > self.after_position and (self.event_types is None or event_type in self.event_types)


class WebhookSecret(models.Model):
    """A secret that an endpoint's messages are signed with, encrypted. One that was replaced is valid for a while."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="secrets")
    wrapped = models.BinaryField()
    wrapped_with = models.TextField(help_text="The name of the key from the environment that encrypted it.")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, help_text="When it's valid no more; null while it's the newest.")

    class Meta:
        db_table = "eventing_webhook_secret"
        default_permissions = ()

    def __str__(self) -> str:
        return f"of {self.endpoint_id}, since {self.created_at}"


class WebhookDelivery(models.Model):
    """An event for an endpoint. The first open one of a sequence blocks the others of that endpoint."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        FAILED = "failed"
        SKIPPED = "skipped"

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey(
        "eventing.StoredEvent", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    position = models.BigIntegerField()
    sequence = models.TextField(help_text="Events of one sequence are sent in order.")
    state = models.TextField(choices=State, default=State.WAITING)
    attempts = models.IntegerField(default=0, help_text="Counted before each is made.")
    due_at = models.DateTimeField(null=True, help_text="Null where it waits behind one that failed, or did itself.")
    leased_until = models.DateTimeField(null=True, help_text="How long it's left to the worker that is at it.")
    last_status = models.IntegerField(null=True, help_text="What the address answered last, as HTTP has it.")
    last_error = models.TextField(default="", db_default="")
    milliseconds = models.IntegerField(null=True, help_text="What the last attempt took.")
    reason = models.TextField(default="", db_default="", help_text="Why it was skipped.")
    created_at = models.DateTimeField(db_default=Now())
    attempted_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "eventing_webhook_delivery"
        verbose_name_plural = "webhook deliveries"
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "position"], name="eventing_webhook_delivery_once"),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "due_at", "position"],
                condition=models.Q(state="waiting"),
                name="eventing_webhook_delivery_due",
            ),
            models.Index(
                fields=["endpoint", "sequence", "position"],
                condition=models.Q(state__in=["waiting", "failed"]),
                name="eventing_webhook_sequence",
            ),
            models.Index(
                fields=["endpoint"],
                condition=models.Q(leased_until__isnull=False),
                name="eventing_webhook_leased",
            ),
            models.Index(fields=["endpoint", "id"], name="eventing_webhook_of_endpoint"),
            models.Index(fields=["endpoint", "id"], condition=models.Q(state="failed"), name="eventing_webhook_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.sequence} at {self.position} for {self.endpoint_id}: {self.state}"
