"""Read-only pages of the log and of those who read it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry, SagaInstance, StoredEvent


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold has no types
    """Shows rows that only the program writes."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(StoredEvent)
class StoredEventAdmin(ReadOnlyAdmin):
    list_display = ("recorded_at", "type", "category", "stream_id", "version", "actor")
    list_filter = ("category",)
    search_fields = ("=id", "=stream_id", "=correlation_id")
    ordering = ("-id",)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ("position", "type", "published_at", "event")
    list_select_related = ("event",)
    ordering = ("-position",)


@admin.register(OutboxEntry)
class OutboxEntryAdmin(ReadOnlyAdmin):
    list_display = ("id", "type", "created_at")


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ("subscription", "partition", "position", "state", "handled", "rate", "moved_at")
    ordering = ("subscription", "partition")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("subscription", "sequence", "position", "state", "attempts", "due_at", "error")
    list_filter = ("state", "subscription")
    ordering = ("-id",)


@admin.register(SagaInstance)
class SagaInstanceAdmin(ReadOnlyAdmin):
    list_display = ("saga", "key", "state", "started_at", "updated_at")
    list_filter = ("saga", "state")
    search_fields = ("=key",)
    ordering = ("-updated_at",)
