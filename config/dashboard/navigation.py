"""The way to every page, in the order in which operators need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.cache import caches
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from eventing.models import Delivery, WebhookDelivery
from eventing.stuck import stuck

BADGE_SECONDS = 5


def dead_letters() -> int:
    """How many letters wait for a person."""
    return _briefly("dead-letters", lambda: Delivery.objects.filter(state=Delivery.State.DEAD).count())


def stuck_sagas() -> int:
    """How many sagas need a person, or may soon."""
    return _briefly("stuck-sagas", lambda: stuck().count())


def failed_webhooks() -> int:
    """How many deliveries have failed, and keep others waiting."""
    failed = WebhookDelivery.objects.filter(state=WebhookDelivery.State.FAILED)
    return _briefly("failed-webhooks", lambda: failed.count())


def _briefly(name: str, count: Callable[[], int]) -> int:
    # In the process's own memory: the pages are needed most when the broker, which the other cache is in, is down.
    return int(caches["process"].get_or_set(f"badge-{name}", count, BADGE_SECONDS) or 0)


class Entry(NamedTuple):
    """A link: its text, Material Symbols' name of its icon, the URL's name, the permission to see it, and a number of
    things there that wait for a person."""

    title: str
    icon: str
    url: str
    permission: str = ""
    badge: Callable[[], int] = int  # which is 0


GROUPS = {
    "Operations": [
        Entry("Home", "home", "admin:index"),
        Entry("Orders", "shopping_cart", "admin:orders_ordersummary_changelist", "orders.view_ordersummary"),
        Entry("Dead letters", "error", "operations:letters", "eventing.view_delivery", dead_letters),
        Entry("Sagas", "conversion_path", "operations:sagas", "eventing.view_sagainstance", stuck_sagas),
        Entry("Subscriptions", "sync_alt", "operations:subscriptions", "eventing.view_checkpoint"),
        Entry(
            "Webhooks",
            "webhook",
            "admin:eventing_webhookdelivery_changelist",
            "eventing.view_webhookdelivery",
            failed_webhooks,
        ),
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
        Entry("Tokens", "key", "admin:knox_authtoken_changelist", "knox.view_authtoken"),
        Entry("Acts", "assignment_ind", "admin:admin_logentry_changelist", "admin.view_logentry"),
    ],
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages that there are and that this user may see."""
    groups: list[dict[str, Any]] = []
    for title, entries in GROUPS.items():
        items = [item for entry in entries if (item := _item(entry, request))]
        if items:
            groups.append({"title": title, "items": items, "separator": bool(groups), "collapsible": False})
    return groups


def _item(entry: Entry, request: HttpRequest) -> dict[str, Any] | None:
    user: Any = request.user
    if entry.permission and not user.has_perm(entry.permission):
        return None
    try:
        link = reverse(entry.url)
    except NoReverseMatch:
        return None  # a page of a context that isn't installed
    badge = {"badge": count, "badge_variant": "danger"} if (count := entry.badge()) else {}
    return {"title": entry.title, "icon": entry.icon, "link": link, **badge}
