"""Accounts, roles, tokens, and what operators did, on the same frame as every other page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin as KnoxTokenAdmin
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from eventing.admin import ReadOnlyAdmin
from orders.admin import OrderSummaryAdmin
from orders.models import OrderSummary
from shipping.models import ShipmentSummary

admin.site.unregister([User, Group, AuthToken, OrderSummary])


@admin.register(OrderSummary)
class OrdersAdmin(OrderSummaryAdmin):
    """Orders are found by their tracking numbers too, which only shipping knows."""

    search_help_text = "Id, reference, customer, e-mail, SKU or tracking number"

    def searches(self, request: HttpRequest, term: str) -> Iterator[Q]:
        yield from super().searches(request, term)
        yield Q(pk__in=ShipmentSummary.objects.filter(tracking_number=term).values("order_id"))


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg] # unfold has no types; generic for checkers only
    """Accounts. Those of superusers are the superusers' own affair, and only they make more of them."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What deleting would take with it; several at once are refused like one, when a superuser is among them."""
        gone, counts, needed, protected = super().get_deleted_objects(objs, request)
        refused = {"superuser"} if any(not _may_touch(request, each) for each in objs) else set()
        return gone, counts, needed | refused, protected


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc] # unfold has no types
    """Roles, which are groups."""


@admin.register(AuthToken)
class TokenAdmin(KnoxTokenAdmin, ModelAdmin):  # type: ignore[misc] # neither has types
    """Tokens for the API. A new one is shown once; what is kept is its digest."""

    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthToken]:
        """A token is its user's power: those of superusers are for superusers."""
        tokens: QuerySet[AuthToken] = super().get_queryset(request)
        return tokens if _is_superuser(request) else tokens.exclude(user__is_superuser=True)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if not _is_superuser(request):
            kwargs["queryset"] = User.objects.exclude(is_superuser=True)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(LogEntry)
class ActAdmin(ReadOnlyAdmin):
    """What operators did: who, when, what, why. Pages, the API and the shell leave their entries here."""

    list_display = ("action_time", "user", "content_type", "object_repr", "change_message")
    list_select_related = ("user", "content_type")
    list_filter = ("content_type", "user")
    search_fields = ("=object_id", "object_repr", "change_message")
    ordering = ("-action_time",)


def _is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


def _may_touch(request: HttpRequest, account: Any) -> bool:
    return account is None or not account.is_superuser or _is_superuser(request)
