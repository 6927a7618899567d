"""Read-only pages of the log and of those who read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from eventing import kinds, resuming
from eventing.domain import FAILED
from eventing.list_filters import known
from eventing.models import (
    Checkpoint,
    Delivery,
    InboxEntry,
    LogEntry,
    OutboxEntry,
    SagaInstance,
    StoredEvent,
    WebhookDelivery,
    WebhookEndpoint,
)
from eventing.subscriptions import subscriptions

MOST = 10_000  # rows that a list counts and leads to: who looks for one among more searches or filters


class Bounded(Paginator):  # type: ignore[type-arg] # generic for type checkers only
    """Pages of the first rows, so that no list counts a whole table."""

    @cached_property
    def count(self) -> int:
        return cast(QuerySet[Any], self.object_list).order_by()[:MOST].count()


class List(ChangeList):  # type: ignore[misc] # unfold has no types
    """Each row leads straight to its page, where it has one. Only the list's own filters and searches look rows up: by
    any other look-up, who may not see a column could guess what is in it."""

    def get_filters(self, request: HttpRequest) -> Any:
        if any("\0" in text for given in request.GET.lists() for text in (given[0], *given[1])):
            raise IncorrectLookupParameters  # PostgreSQL has no such text
        found = super().get_filters(request)
        if left := found[2]:
            raise IncorrectLookupParameters(f"No filter of this list asks for {', '.join(left)}.")
        return found

    def url_for_result(self, result: Model) -> str:
        return self.model_admin.page_of(result) or str(super().url_for_result(result))


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc] # unfold has no types
    """Shows rows that only the program writes.

    Fields of ``search_fields`` that are written with = are looked up as they are, so that an index finds them, and a
    term that such a field can't have is no error. Others contain the term.
    """

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # to count what each choice would find takes the whole table
    paginator = Bounded
    page = ""  # the name of the address of a row's own page, which names it

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return List

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        # By whatever method but the one that Django's form is sent with, which is refused.
        row = self.get_object(request, unquote(object_id)) if self.page and request.method != "POST" else None
        if row is not None and (page := self.page_of(row)):
            return HttpResponseRedirect(page)
        answer: HttpResponse = super().change_view(request, object_id, *args, **kwargs)
        return answer

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def page_of(self, row: Model) -> str:
        """The address of a row's own page, empty where there's none."""
        try:
            return reverse(self.page, args=self.named(row)) if self.page else ""
        except NoReverseMatch:
            return ""

    def named(self, row: Any) -> list[Any]:
        """What the address of a row's own page names it by."""
        return [row.pk]

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


def _categories() -> list[str]:
    return [kind.category for kind in kinds.aggregates()]


def _subscriptions() -> list[str]:
    return [each.name for each in subscriptions()]


def _sagas() -> list[str]:
    return [each.name for each in resuming.sagas()]


def _first_and_last_states() -> set[str]:
    """Those between aren't written down anywhere; they can be sorted by."""
    classes = [each.saga_class for each in resuming.sagas()]
    return {FAILED}.union(*(kind.final | {kind(id=UUID(int=0)).state} for kind in classes))


@admin.register(StoredEvent)
class StoredEventAdmin(ReadOnlyAdmin):
    list_display = ("recorded_at", "type", "category", "stream_id", "version", "actor")
    list_filter = (known("category", _categories),)
    search_fields = ("=id",)
    search_help_text = "An event's id, or its stream's, in full"
    ordering = ("-id",)

    def searches(self, request: HttpRequest, term: str) -> Iterator[Q]:
        yield from super().searches(request, term)
        yield Q(category__in=_categories(), stream_id=term)  # both columns make the index


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
    list_display = ("subscription", "sequence", "position", "state", "attempts", "due_at")
    list_filter = ("state", known("subscription", _subscriptions))
    exclude = ("error", "traceback")  # they may tell of a person: the letter's own page knows to whom
    ordering = ("-id",)
    page = "operations:letter"


@admin.register(InboxEntry)
class InboxEntryAdmin(ReadOnlyAdmin):
    list_display = ("source", "provider", "event_id", "state", "attempts", "received_at")
    list_filter = ("state",)
    exclude = ("body",)  # it may tell of a person
    ordering = ("-id",)


@admin.register(SagaInstance)
class SagaInstanceAdmin(ReadOnlyAdmin):
    list_display = ("saga", "key", "state", "started_at", "updated_at")
    list_filter = (known("saga", _sagas), known("state", _first_and_last_states))
    search_fields = ("=key",)
    exclude = ("memory",)
    ordering = ("-id",)
    page = "operations:saga"

    def searches(self, request: HttpRequest, term: str) -> Iterator[Q]:
        for each in super().searches(request, term):
            yield each & Q(saga__in=_sagas())  # both columns make the index

    def named(self, row: SagaInstance) -> list[Any]:
        return [row.saga, row.key]


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "owner", "url", "enabled", "disabled_reason", "disabled_at")
    list_filter = ("enabled",)
    list_select_related = ("owner",)
    ordering = ("-id",)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("endpoint", "sequence", "position", "state", "attempts", "due_at", "last_status")
    list_filter = ("state",)
    list_select_related = ("endpoint",)
    ordering = ("-id",)
