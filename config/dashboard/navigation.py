"""The way to every page, in the order in which operators need them."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.core.cache import cache
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from eventing.models import Delivery, SagaInstance

BADGE_SECONDS = 5


class Entry(NamedTuple):
    """A link: its text, Material Symbols' name of its icon, the URL's name, and the permission to see it."""

    title: str
    icon: str
    url: str
    permission: str = ""
    badge: str = ""


GROUPS = {
    "Operations": [
        Entry("Home", "home", "admin:index"),
        Entry("Orders", "shopping_cart", "admin:orders_ordersummary_changelist", "orders.view_ordersummary"),
        Entry("Dead letters", "error", "operations:letters", "eventing.view_delivery", "dead_letters"),
        Entry("Sagas", "conversion_path", "operations:sagas", "eventing.view_sagainstance", "failed_sagas"),
        Entry("Subscriptions", "sync_alt", "operations:subscriptions", "eventing.view_checkpoint"),
        Entry("Outbox", "outbox", "operations:outbox", "eventing.view_outboxentry"),
    ],
    "Contexts": [
        Entry("Inventory", "inventory_2", "admin:inventory_stocklevel_changelist", "inventory.view_stocklevel"),
        Entry("Payments", "payments", "admin:payments_paymentsummary_changelist", "payments.view_paymentsummary"),
        Entry(
            "Shipments", "local_shipping", "admin:shipping_shipmentsummary_changelist", "shipping.view_shipmentsummary"
        ),
        Entry("Returns", "assignment_return", "admin:orders_return_changelist", "orders.view_return"),
    ],
    "Log": [
        Entry("Events", "history", "admin:eventing_storedevent_changelist", "eventing.view_storedevent"),
        Entry("Positions", "format_list_numbered", "admin:eventing_logentry_changelist", "eventing.view_logentry"),
    ],
    "Accounts": [
        Entry("Users", "person", "admin:auth_user_changelist", "auth.view_user"),
        Entry("Roles", "group", "admin:auth_group_changelist", "auth.view_group"),
    ],
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages that there are and that this user may see."""
    groups = []
    for title, entries in GROUPS.items():
        items = [item for entry in entries if (item := _item(entry, request))]
        if items:
            groups.append({"title": title, "items": items, "separator": True, "collapsible": False})
    return groups


def dead_letters(request: HttpRequest) -> int | str:
    """How many letters wait for a person; nothing when none does."""
    return _briefly("dead-letters", lambda: Delivery.objects.filter(state=Delivery.State.DEAD).count())


def failed_sagas(request: HttpRequest) -> int | str:
    """How many sagas wait for a person; nothing when none does."""
    return _briefly("failed-sagas", lambda: SagaInstance.objects.filter(state="FAILED").count())


def _briefly(name: str, count: Any) -> int | str:
    return cache.get_or_set(f"waybill-badge-{name}", count, BADGE_SECONDS) or ""


def _item(entry: Entry, request: HttpRequest) -> dict[str, Any] | None:
    user: Any = request.user
    if entry.permission and not user.has_perm(entry.permission):
        return None
    try:
        link = reverse(entry.url)
    except NoReverseMatch:
        return None  # a page of a context that isn't installed
    badge = {"badge": f"{__name__}.{entry.badge}", "badge_variant": "danger"} if entry.badge else {}
    return {"title": entry.title, "icon": entry.icon, "link": link, **badge}
