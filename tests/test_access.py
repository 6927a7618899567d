"""Who may do what: every route of the API, and every page that shows what only the program writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from knox.models import AuthToken
from pytest_django import Settings

from config.roles import ROLES
from eventing.models import Delivery, LetterGroup, StoredEvent, WebhookDelivery
from eventing.testing import settle
from eventing.webhooks import endpoints
from payments.commands import payment_of
from shipping.commands import shipment_of
from tests.articles import on_sale
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

PRICE = {"amount": 255, "currency": "GBP"}
PLACE = {"lines": [{"sku": "85123A", "quantity": 1, "unit_price": PRICE}]}
PLACE_FOR_ANOTHER = {**PLACE, "customer_id": "0197a000-0000-7000-8000-000000000002"}
CANCEL = {"reason": "Changed my mind"}
RETURN = {"lines": [{"line": 1, "quantity": 1}], "reason": "Too many"}
LIST_ITEM = {"sku": "71053", "description": "Lantern", "list_price": PRICE}
RECEIVE = {"quantity": 1}
ADJUST = {"change": 1, "reason": "Found"}
SET_PRICE = {"list_price": PRICE}
REPLAY = {"projection": "orders.OrderSummaries"}
REASON = {"reason": "A test"}
DELIVERY = "webhook-endpoints/<uuid:endpoint_id>/deliveries/<int:delivery_id>"
WEBHOOK = {"url": "https://[::1]:65000/"}
GROUP = {"signature": "0123456789abcdef"}

WHO = ("nobody", "customer", "other customer", "viewer", "operator", "administrator")

# What each gets when asking for it. The order is the customer's; the roles are those that a migration makes.
TABLE: list[tuple[str, str, Any, tuple[int, int, int, int, int, int]]] = [
    ("GET", "orders", None, (401, 200, 200, 200, 200, 200)),
    ("POST", "orders", PLACE, (401, 201, 201, 201, 201, 201)),
    ("POST", "orders", PLACE_FOR_ANOTHER, (401, 403, 403, 403, 201, 201)),
    ("POST", "orders/bulk", {"orders": [PLACE]}, (401, 207, 207, 207, 207, 207)),
    ("GET", "orders/<uuid:order_id>", None, (401, 200, 404, 200, 200, 200)),
    ("GET", "orders/<uuid:order_id>?version=1", None, (401, 200, 404, 200, 200, 200)),
    ("GET", "orders/<uuid:order_id>/history", None, (401, 200, 404, 200, 200, 200)),
    ("GET", "orders/<uuid:order_id>/stream", None, (401, 501, 404, 501, 501, 501)),  # this client has no live streams
    ("POST", "orders/<uuid:order_id>/cancel", CANCEL, (401, 200, 404, 403, 200, 200)),
    ("POST", "orders/<uuid:order_id>/returns", RETURN, (401, 403, 404, 403, 409, 409)),  # it isn't shipped yet
    ("GET", "inventory/items", None, (401, 200, 200, 200, 200, 200)),
    ("POST", "inventory/items", LIST_ITEM, (401, 403, 403, 403, 201, 201)),
    ("GET", "inventory/items/<str:sku>", None, (401, 200, 200, 200, 200, 200)),
    ("POST", "inventory/items/<str:sku>/receive", RECEIVE, (401, 403, 403, 403, 200, 200)),
    ("POST", "inventory/items/<str:sku>/adjust", ADJUST, (401, 403, 403, 403, 200, 200)),
    ("POST", "inventory/items/<str:sku>/price", SET_PRICE, (401, 403, 403, 403, 200, 200)),
    ("GET", "inventory/items/<str:sku>/availability", None, (401, 200, 200, 200, 200, 200)),
    ("GET", "payments", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "payments/<uuid:payment_id>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "payments/<uuid:payment_id>/refunds", REASON, (401, 403, 403, 403, 201, 201)),
    ("GET", "payments/<uuid:payment_id>/refunds/<uuid:refund_id>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "payments/webhooks/<slug:provider>", GROUP, (400, 400, 400, 400, 400, 400)),  # it isn't signed
    ("POST", "shipments/webhooks/<slug:provider>", GROUP, (400, 400, 400, 400, 400, 400)),
    ("GET", "shipments", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "shipments/<uuid:shipment_id>", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "commands", None, (401, 200, 200, 200, 200, 200)),
    ("GET", "commands/<uuid:command_id>", None, (401, 200, 404, 200, 200, 200)),
    ("GET", "sagas", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "sagas/<str:name>/<uuid:key>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "sagas/<str:name>/<uuid:key>/resume", None, (401, 403, 403, 403, 409, 409)),  # it has ended well
    ("GET", "replays", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "replays", REPLAY, (401, 403, 403, 403, 201, 201)),
    ("GET", "replays/<int:replay_id>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "replays/<int:replay_id>/<str:act>", None, (401, 403, 403, 403, 200, 200)),
    ("GET", "letter-groups", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "letter-groups/<slug:signature>", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "letters", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "letters/<int:letter_id>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "letters/<int:letter_id>/retry", None, (401, 403, 403, 403, 200, 200)),
    ("POST", "letters/<int:letter_id>/retry-sequence", None, (401, 403, 403, 403, 200, 200)),
    ("POST", "letters/<int:letter_id>/skip", REASON, (401, 403, 403, 403, 200, 200)),
    ("POST", "letters/skip", {**GROUP, **REASON}, (401, 403, 403, 403, 200, 200)),
    ("GET", "letter-jobs", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "letter-jobs", GROUP, (401, 403, 403, 403, 201, 201)),
    ("GET", "letter-jobs/<int:job_id>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "letter-jobs/<int:job_id>/cancel", None, (401, 403, 403, 403, 200, 200)),
    ("GET", "letter-jobs/<int:job_id>/letters", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "stream", None, (401, 403, 403, 501, 501, 501)),
    ("GET", "subscriptions", None, (401, 403, 403, 200, 200, 200)),
    ("GET", "subscriptions/<str:name>", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "subscriptions/<str:name>/<str:act>", None, (401, 403, 403, 403, 200, 200)),
    ("GET", "webhook-endpoints", None, (401, 403, 403, 200, 200, 200)),
    ("POST", "webhook-endpoints", WEBHOOK, (401, 403, 403, 403, 201, 201)),
    ("GET", "webhook-endpoints/<uuid:endpoint_id>", None, (401, 403, 403, 200, 200, 200)),
    ("PATCH", "webhook-endpoints/<uuid:endpoint_id>", {"enabled": False}, (401, 403, 403, 403, 200, 200)),
    ("PATCH", "webhook-endpoints/<uuid:endpoint_id>", WEBHOOK, (401, 403, 403, 403, 200, 403)),  # the operator's own
    ("DELETE", "webhook-endpoints/<uuid:endpoint_id>", None, (401, 403, 403, 403, 204, 204)),
    ("POST", "webhook-endpoints/<uuid:endpoint_id>/rotate-secret", {}, (401, 403, 403, 403, 200, 403)),
    ("POST", "webhook-endpoints/<uuid:endpoint_id>/test", None, (401, 403, 403, 403, 200, 200)),
    ("POST", "webhook-endpoints/<uuid:endpoint_id>/replay", {"since_position": 0}, (401, 403, 403, 403, 200, 200)),
    ("GET", "webhook-endpoints/<uuid:endpoint_id>/deliveries", None, (401, 403, 403, 200, 200, 200)),
    (
        "POST",
        f"{DELIVERY}/retry",
        None,
        (401, 403, 403, 403, 200, 200),
    ),
    (
        "POST",
        f"{DELIVERY}/skip",
        REASON,
        (401, 403, 403, 403, 200, 200),
    ),
    ("GET", "schema", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "docs", None, (200, 200, 200, 200, 200, 200)),
]


@pytest.fixture
def clients() -> dict[str, ApiClient]:
    users = {
        "customer": User.objects.create_user("ann"),
        "other customer": User.objects.create_user("ben"),
        **{role: User.objects.create_user(role, is_staff=True) for role in ROLES},
    }
    for role in ROLES:
        users[role].groups.set([Group.objects.get(name=role)])
    on_sale({"85123A": 255})
    clients = {name: ApiClient(raise_request_exception=False) for name in WHO}
    for name, user in users.items():
        _, token = AuthToken.objects.create(user)
        clients[name].credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return clients


@pytest.mark.parametrize(("method", "route", "body", "expected"), TABLE)
@pytest.mark.parametrize("who", WHO)
def test_everybody_gets_what_the_table_says(
    clients: dict[str, ApiClient],
    settings: Settings,
    who: str,
    method: str,
    route: str,
    body: Any,
    expected: tuple[int, ...],
) -> None:
    settings.EVENTING = {**settings.EVENTING, "WEBHOOK_ALLOWED_NETWORKS": [ip_network("::1")]}
    path = _filled_in(route, clients)

    answer = clients[who].generic(method, f"/api/v1/{path}", _json(body), content_type="application/json")
    assert answer.status_code == expected[WHO.index(who)]


@pytest.mark.parametrize("who", WHO)
def test_outside_of_the_table_everybody_gets_the_same(clients: dict[str, ApiClient], who: str) -> None:
    expected = {"/livez": 200, "/readyz": 200, "/problems/": 200, "/problems/invalid": 200, "/api/v1/nothing": 404}
    assert {path: clients[who].get(path).status_code for path in expected} == expected


def test_the_table_has_every_route_and_each_of_its_methods() -> None:
    assert {(method, route.partition("?")[0]) for method, route, _, _ in TABLE} == set(_routes("api/v1/"))


def test_a_list_has_only_what_its_reader_may_see(clients: dict[str, ApiClient]) -> None:
    mine = clients["customer"].post("/api/v1/orders", PLACE).json()["order_id"]
    other = clients["other customer"].post("/api/v1/orders", PLACE).json()["order_id"]
    guest = clients["operator"].post("/api/v1/orders", PLACE).json()["order_id"]
    settle()

    assert _listed(clients["customer"]) == {mine}
    assert _listed(clients["other customer"]) == {other}
    assert _listed(clients["operator"]) == _listed(clients["administrator"]) == {mine, other, guest}


def test_a_filter_shows_nobody_the_orders_of_others(clients: dict[str, ApiClient]) -> None:
    customer = clients["customer"].post("/api/v1/orders", PLACE).json()["customer_id"]
    settle()

    for who, count in (("customer", 1), ("other customer", 0), ("operator", 1)):
        found = clients[who].get("/api/v1/orders", {"customer": customer}).json()["results"]
        assert len(found) == count


WRITTEN_BY_THE_PROGRAM = [
    model
    for model in admin.site._registry
    if model._meta.app_label in ("eventing", "orders", "payments", "inventory", "shipping")
]


@pytest.fixture
def administrator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_the_admin_asks_who_it_is(client: Client) -> None:
    assert client.get("/")["Location"] == "/admin/"
    assert client.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    page = client.get("/admin/login/")
    assert page.status_code == 200
    assert 'name="password"' in page.content.decode()


def test_events_and_read_models_have_pages() -> None:
    pages = {model._meta.label for model in WRITTEN_BY_THE_PROGRAM}
    assert {"eventing.StoredEvent", "orders.OrderSummary", "inventory.StockLevel", "payments.PaymentSummary"} <= pages


@pytest.mark.parametrize("model", WRITTEN_BY_THE_PROGRAM, ids=lambda model: model._meta.label)
def test_not_even_an_administrator_can_edit_what_the_program_writes(
    administrator: Client, model: type[models.Model]
) -> None:
    page = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"

    assert administrator.get(page).status_code == 200
    assert administrator.get(f"{page}add/").status_code == 403
    assert administrator.post(f"{page}add/", {}).status_code == 403
    pages = admin.site._registry[model]
    request = administrator.get(page).wsgi_request
    assert not pages.has_change_permission(request)
    assert not pages.has_delete_permission(request)
    assert not pages.get_actions(request)


def test_an_order_is_shown_and_can_not_be_changed_or_deleted(
    administrator: Client, clients: dict[str, ApiClient]
) -> None:
    order = clients["customer"].post("/api/v1/orders", PLACE).json()
    settle()
    page = f"/admin/orders/ordersummary/{order['order_id']}/change/"

    assert order["order_id"] in administrator.get(page, follow=True).content.decode()
    assert administrator.post(page, {"status": "delivered"}).status_code == 403
    assert administrator.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403


def _filled_in(route: str, clients: dict[str, ApiClient]) -> str:
    """The address of something that is there: the customer's order, and what belongs to it."""
    boss = clients["administrator"]
    boss.post("/api/v1/inventory/items", {**LIST_ITEM, "sku": "85123A"})
    boss.post("/api/v1/inventory/items/85123A/receive", {"quantity": 5})
    order = UUID(clients["customer"].post("/api/v1/orders", PLACE).json()["order_id"])
    if re.search("saga|payment|shipment", route):
        settle()
    known: dict[str, Any] = {
        "<uuid:order_id>": order,
        "<uuid:payment_id>": payment_of(order),
        "<uuid:shipment_id>": shipment_of(order),
        "<str:sku>": "85123A",
        "<str:name>/<uuid:key>": f"orders.OrderFulfilment/{order}",
        "<slug:signature>": GROUP["signature"],
        "<slug:provider>": "simulated",
        "<str:name>": "orders.OrderSummaries",
    }
    made: dict[str, Callable[[], Any]] = {
        "<uuid:refund_id>": lambda: _given_back(boss, order),
        "<uuid:command_id>": lambda: _later(clients["customer"]),
        "<int:replay_id>/<str:act>": lambda: f"{boss.post('/api/v1/replays', REPLAY).json()['id']}/cancel",
        "<int:replay_id>": lambda: boss.post("/api/v1/replays", REPLAY).json()["id"],
        "<int:letter_id>": _dead_letter,
        "<int:job_id>": lambda: _dead_letter() and boss.post("/api/v1/letter-jobs", GROUP).json()["id"],
        "<str:act>": lambda: "pause",
    }
    if route == "letters/skip" or "<slug:signature>" in route or route == "letter-jobs":
        _dead_letter()
    if "<uuid:endpoint_id>" in route:
        delivery = _webhook_delivery(User.objects.get(username="operator"))
        known |= {"<uuid:endpoint_id>": delivery.endpoint_id, "<int:delivery_id>": delivery.pk}
    for name, value in known.items():
        route = route.replace(name, str(value))
    for name, make in made.items():
        if name in route:
            route = route.replace(name, str(make()))
    return route


def _given_back(client: ApiClient, order: UUID) -> Any:
    return client.post(f"/api/v1/payments/{payment_of(order)}/refunds", REASON).json()["refund_id"]


def _later(client: ApiClient) -> Any:
    return client.post("/api/v1/orders", PLACE, headers={"Prefer": "respond-async"}).json()["id"]


def _dead_letter() -> int:
    """The number of a letter of a group."""
    group = LetterGroup.objects.create(**GROUP, subscription="payments.charge", event_type="orders.order_placed")
    letter = Delivery.objects.create(
        subscription=group.subscription,
        partition=0,
        sequence="a sequence",
        event=StoredEvent.objects.earliest("recorded_at"),
        position=1,
        state="dead",
        signature=group.signature,
    )
    return letter.pk


def _webhook_delivery(owner: User) -> WebhookDelivery:
    """One that waits, at an address where nobody listens."""
    endpoint, _ = endpoints.register(owner, url=WEBHOOK["url"], description="", event_types=None)
    event = StoredEvent.objects.earliest("recorded_at")
    return WebhookDelivery.objects.create(endpoint=endpoint, event=event, position=1, sequence="a sequence")


def _listed(client: ApiClient) -> set[str]:
    return {order["order_id"] for order in client.get("/api/v1/orders").json()["results"]}


def _json(body: Any) -> str:
    return json.dumps(body) if body is not None else ""


def _routes(prefix: str) -> Iterator[tuple[str, str]]:
    """The methods and the address of everything below a prefix."""
    for entry in get_resolver().url_patterns:
        match entry:
            case URLResolver() if str(entry.pattern) == prefix:
                for each in entry.url_patterns:
                    yield from ((method, str(each.pattern)) for method in _methods(each))
            case URLPattern() if str(entry.pattern).startswith(prefix):
                yield from ((method, str(entry.pattern).removeprefix(prefix)) for method in _methods(entry))


def _methods(pattern: Any) -> Iterator[str]:
    view = pattern.callback.cls
    return (method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method))
