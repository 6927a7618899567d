"""Read-only pages of the log and of those who read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry, SagaInstance, StoredEvent

MOST = 10_000  # rows that a list counts and leads to: who looks for one among more searches or filters


class Bounded(Paginator):  # type: ignore[type-arg] # generic for type checkers only
    """Pages of the first rows, so that no list counts a whole table."""

    @cached_property
    def count(self) -> int:
        return cast(QuerySet[Any], self.object_list).order_by()[:MOST].count()


class List(ChangeList):  # type: ignore[misc] # unfold has no types
    """Each row leads straight to its page, where it has one."""

    def url_for_result(self, result: Model) -> str:
        return self.model_admin.page_of(result) or str(super().url_for_result(result))


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold has no types
    """Shows rows that only the program writes.

    Fields of ``search_fields`` that are written with = are looked up as they are, so that an index finds them, and a
    term that such a field can't have is no error. Others contain the term.
    """

    show_full_result_count = False
    paginator = Bounded
    page = ""  # the name of the address of a row's own page, which has its key

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return List

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        row = self.get_object(request, unquote(object_id)) if self.page and request.method == "GET" else None
        if row is not None and (page := self.page_of(row)):
            return HttpResponseRedirect(page)
        answer: HttpResponse = super().change_view(request, object_id, *args, **kwargs)
        return answer

    def page_of(self, row: Model) -> str:
        """The address of a row's own page, empty where there's none."""
        try:
            return reverse(self.page, args=[row.pk]) if self.page else ""
        except NoReverseMatch:
            return ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """What any of the searches finds, each by its own index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = [self.model.objects.filter(each).order_by().values("pk") for each in self.searches(request, term)]
        if not found:
            return queryset.none(), False
        return queryset.filter(pk__in=found[0].union(*found[1:]) if len(found) > 1 else found[0]), False

    def searches(self, request: HttpRequest, term: str) -> Iterator[Q]:
        """What a term may be, one condition for each."""
        for name in self.get_search_fields(request):
            field = self.model._meta.get_field(name.removeprefix("="))
            try:
                yield Q(**{field.name: field.to_python(term)} if name[0] == "=" else {f"{name}__icontains": term})
            except ValidationError:
                continue  # a word is no UUID


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
