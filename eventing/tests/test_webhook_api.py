"""Endpoints over HTTP: whose they are, what can be said of them, and what can be done about their deliveries."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from eventing import audit
from eventing.models import RequestedCommand, WebhookDelivery, WebhookEndpoint
from eventing.tests.bank.customers import opens_account, pays_in
from eventing.tests.conftest import InThreads
from eventing.tests.receiver import Receiver, Reply, receiving
from eventing.tests.test_webhooks import everything_is_sent, everything_is_walked
from eventing.webhooks import endpoints
from eventing.webhooks.api import TRIALS
from tests.clients import ApiClient, api_of
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ENDPOINTS = "/api/v1/webhook-endpoints"
PAID_IN = "bank.money_paid_in"
PUBLIC = "https://8.8.8.8/hooks"


@pytest.fixture
def shop() -> ApiClient:
    return api_of("shop", "manage_webhooks")


@pytest.fixture
def clerk() -> ApiClient:
    return api_of("clerk", "manage_webhooks", "view_webhookendpoint")


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    """One on this machine, which settings allow; every delivery has one attempt."""
    settings.EVENTING = {
        **settings.EVENTING,
        "WEBHOOK_INSECURE": True,
        "WEBHOOK_ALLOWED_NETWORKS": [ip_network("127.0.0.0/8")],
        "WEBHOOK_SCHEDULE": [0],
    }
    with receiving() as receiver:
        yield receiver


def registered(api: ApiClient, url: str = PUBLIC, **said: Any) -> dict[str, Any]:
    answer = api.post(ENDPOINTS, {"url": url, **said})
    assert answer.status_code == 201, answer.json()
    told: dict[str, Any] = answer.json()
    return told


def of(endpoint: dict[str, Any], *path: object) -> str:
    return "/".join([ENDPOINTS, str(endpoint["id"]), *map(str, path)])


def noted() -> list[tuple[str, str]]:
    return [(each.user.get_username(), audit.told(each)["act"]) for each in LogEntry.objects.order_by("pk")]


def test_a_secret_is_shown_once(shop: ApiClient) -> None:
    answer = shop.post(ENDPOINTS, {"url": PUBLIC, "description": "Our warehouse", "event_types": [PAID_IN]})
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    assert (made["owner"], made["enabled"], made["event_types"]) == ("shop", True, [PAID_IN])
    assert answer["Location"] == of(made)
    assert answer["Cache-Control"] == "no-store"
    again = shop.get(of(made)).json()
    assert {**again, "secret": made["secret"]} == made
    assert made["secret"] not in shop.get(ENDPOINTS).content.decode()
    assert made["secret"] not in str(list(LogEntry.objects.values_list("change_message", flat=True)))


@pytest.mark.parametrize(
    ("said", "pointer", "complaint"),
    [
        ({}, "#/url", "required"),
        ({"url": "/hooks"}, "#/url", "https://"),
        ({"url": "javascript:alert(1)"}, "#/url", "https://"),
        ({"url": "http://8.8.8.8/"}, "#/url", "https://"),
        ({"url": "https://127.0.0.1/"}, "#/url", "public internet"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "#/url", "public internet"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "#/url", "public internet"),
        ({"url": f"https://{'x' * 300}.example/"}, "#/url", "no address"),
        ({"url": "https://example..com/"}, "#/url", "no address"),
        ({"url": f"{PUBLIC}/{'x' * 5_000}"}, "#/url", "2,000 characters"),
        ({"url": f"{PUBLIC}\0"}, "#/url", "control characters"),
        ({"url": 17}, "#/url", "valid"),
        ({"url": PUBLIC, "description": "a\0b"}, "#/description", "control characters"),
        ({"url": PUBLIC, "event_types": ["orders.order_lost"]}, "#/event_types/0", "'orders.order_lost'"),
        ({"url": PUBLIC, "event_types": [PAID_IN, "nothing"]}, "#/event_types/1", "'nothing'"),
        ({"url": PUBLIC, "event_types": [PAID_IN, PAID_IN]}, "#/event_types", PAID_IN),
        ({"url": PUBLIC, "event_types": []}, "#/event_types", "empty"),
        ({"url": PUBLIC, "event_types": PAID_IN}, "#/event_types", "list"),
        ({"url": PUBLIC, "secret": "whsec_"}, "#/secret", "isn't known"),
        ({"url": PUBLIC, "enabled": False}, "#/enabled", "isn't known"),
        ([PUBLIC], "#", "JSON object"),
    ],
)
def test_what_cant_be_registered_is_pointed_to(shop: ApiClient, said: Any, pointer: str, complaint: str) -> None:
    answer = shop.post(ENDPOINTS, said)
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert complaint in error["detail"]
    assert not WebhookEndpoint.objects.exists()


def test_an_account_has_only_so_many_endpoints(shop: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST", 1)
    registered(shop)
    answer = shop.post(ENDPOINTS, {"url": PUBLIC})
    assert (answer.status_code, answer.json()["code"]) == (409, "rejected")


def test_people_see_their_own_and_who_may_view_all_sees_all(shop: ApiClient, clerk: ApiClient) -> None:
    other = api_of("other", "manage_webhooks")
    looks_only = api_of("viewer", "view_webhookendpoint")
    mine, theirs = registered(shop), registered(other)

    def listed(api: ApiClient) -> set[str]:
        return {each["id"] for each in api.get(ENDPOINTS).json()["results"]}

    assert (listed(shop), listed(other)) == ({mine["id"]}, {theirs["id"]})
    assert listed(clerk) == listed(looks_only) == {mine["id"], theirs["id"]}
    for path in ("", "deliveries"):
        assert other.get(of(mine, path).rstrip("/")).status_code == 404
    for path, body in (("rotate-secret", {}), ("test", None), ("replay", {"since_position": 0})):
        assert other.post(of(mine, path), body).status_code == 404
        assert looks_only.post(of(mine, path), body).status_code == 403
    assert other.delete(of(mine)).status_code == 404


def test_nobody_sends_what_anothers_account_may_see_to_himself(shop: ApiClient, clerk: ApiClient) -> None:
    made = registered(shop)
    for said in ({"url": "https://1.1.1.1/"}, {"event_types": None}, {"enabled": True, "description": "Mine now"}):
        assert clerk.patch(of(made), said).status_code == 403
    assert clerk.post(of(made, "rotate-secret"), {}).status_code == 403
    assert clerk.patch(of(made), {"enabled": False}).json()["disabled_reason"] == "Switched off by clerk."
    assert clerk.delete(of(made)).status_code == 204


def test_an_endpoint_is_changed_where_something_is_said(shop: ApiClient) -> None:
    made = registered(shop, event_types=[PAID_IN])
    changed = shop.patch(of(made), {"url": "https://1.1.1.1/", "event_types": None}).json()
    assert (changed["url"], changed["event_types"], changed["enabled"]) == ("https://1.1.1.1/", None, True)
    assert shop.patch(of(made), {}).json() == changed
    refused = shop.patch(of(made), {"url": "https://10.0.0.1/"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "#/url")
    off = shop.patch(of(made), {"enabled": False}).json()
    assert off["disabled_at"] is not None
    on = shop.patch(of(made), {"enabled": True}).json()
    assert (on["disabled_at"], on["disabled_reason"]) == (None, "")


def test_a_trial_says_what_came_back(shop: ApiClient, receiver: Receiver) -> None:
    made = registered(shop, receiver.url)
    answer = shop.post(of(made, "test")).json()
    assert (answer["status"], answer["error"]) == (204, "")
    (message,) = receiver.heard
    assert message.verified(made["secret"])["type"] == "webhook.test"
    receiver.answer = lambda message: Reply(418, (), b"I'm a teapot")
    answer = shop.post(of(made, "test")).json()
    assert (answer["status"], answer["excerpt"]) == (418, "I'm a teapot")
    answer = shop.post(of(registered(shop, "http://127.0.0.1:65001/"), "test")).json()
    assert (answer["status"], "ConnectError" in answer["error"]) == (None, True)
    assert not WebhookDelivery.objects.exists()


def test_an_account_has_a_few_trials_under_way_and_no_more(
    shop: ApiClient, receiver: Receiver, in_threads: InThreads
) -> None:
    made = registered(shop, receiver.url)
    answering = threading.Event()
    receiver.answer = lambda message: Reply(204 if answering.wait(60) else 500)

    def try_once_more() -> Any:
        assert eventually(lambda: len(receiver.heard) == TRIALS)
        try:
            return shop.post(of(made, "test"))
        finally:
            answering.set()

    *tried, refused = in_threads(*[lambda: shop.post(of(made, "test"))] * TRIALS, try_once_more)
    assert [answer.json()["status"] for answer in tried] == [204] * TRIALS
    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, "throttled", "5")
    assert shop.post(of(made, "test")).status_code == 200


def test_nobody_is_asked_for_a_name_while_an_address_is_registered_or_changed(
    shop: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = socket.getaddrinfo

    def getaddrinfo(host: str, *asked: Any, **options: Any) -> list[Any]:
        assert options.get("flags") == socket.AI_NUMERICHOST or not host.endswith(".example")
        return list(really(host, *asked, **options))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    made = registered(shop, "https://slow.example/hooks")
    assert shop.patch(of(made), {"url": "https://slower.example/hooks"}).status_code == 200


def test_a_new_secret_says_until_when_the_old_one_is_valid(shop: ApiClient) -> None:
    made = registered(shop)
    answer = shop.post(of(made, "rotate-secret"), {"old_valid_hours": 1})
    assert answer.json()["secret"] != made["secret"]
    assert answer.json()["old_valid_until"]
    for hours in (-1, 169, "24", 1.5):
        assert shop.post(of(made, "rotate-secret"), {"old_valid_hours": hours}).status_code == 400


def test_what_failed_is_listed_retried_and_skipped(shop: ApiClient, receiver: Receiver) -> None:
    made = registered(shop, receiver.url, event_types=[PAID_IN])
    receiver.answer = lambda message: Reply(500, (), b"Out of order")
    for _ in range(2):
        pays_in(opens_account(), 1, 2)
    everything_is_sent()
    failed = shop.get(of(made, "deliveries"), {"state": "failed"}).json()["results"]
    assert [(each["last_status"], each["last_error"]) for each in failed] == [(500, "Answered 500. Out of order")] * 2
    assert {each["event_type"] for each in failed} == {PAID_IN}
    receiver.answer = lambda message: Reply()
    retried, skipped = (each["id"] for each in failed)
    assert shop.post(of(made, "deliveries", retried, "retry")).json()["state"] == "waiting"
    answer = shop.post(of(made, "deliveries", skipped, "skip"), {"reason": "Known already"})
    assert (answer.json()["state"], answer.json()["reason"]) == ("skipped", "Known already")
    everything_is_sent()
    assert shop.get(of(made, "deliveries"), {"state": "failed"}).json()["results"] == []
    again = shop.post(of(made, "deliveries", retried, "retry"))
    assert (again.status_code, again.json()["code"]) == (409, "rejected")
    assert shop.post(of(made, "deliveries", skipped, "skip"), {"reason": " "}).status_code == 400
    assert shop.get(of(made, "deliveries"), {"state": "lost"}).status_code == 400
    assert shop.post(of(made, "deliveries", 10**30, "retry")).status_code == 404
    assert noted() == [("shop", "registered"), ("shop", "retried"), ("shop", "skipped")]


def test_a_delivery_is_found_at_its_own_endpoint_alone(shop: ApiClient, receiver: Receiver) -> None:
    first, second = registered(shop, receiver.url), registered(shop, receiver.url)
    opens_account()
    everything_is_walked()
    delivery = WebhookDelivery.objects.get(endpoint=first["id"])
    assert shop.post(of(second, "deliveries", delivery.pk, "retry")).status_code == 404


def test_what_was_missed_is_asked_for_by_position_or_time(shop: ApiClient, receiver: Receiver) -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    everything_is_walked()
    made = registered(shop, receiver.url)
    told = shop.post(of(made, "replay"), {"since_position": 1}).json()
    assert told == {"deliveries": 2, "position": 3, "walked": 3}
    everything_is_sent()
    assert receiver.amounts == [1, 2]
    told = shop.post(of(made, "replay"), {"since_time": "2020-01-01T00:00:00Z", "done_too": True}).json()
    assert told["deliveries"] == 3


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"since_position": 1, "since_time": "2020-01-01T00:00:00Z"},
        {"since_position": -1},
        {"since_position": 2**63},
        {"since_position": "1"},
        {"since_time": "yesterday"},
        {"since": 1, "since_position": 1},
    ],
)
def test_a_replay_that_doesnt_say_from_where_is_refused(shop: ApiClient, said: Any) -> None:
    assert shop.post(of(registered(shop), "replay"), said).status_code == 400


def test_the_admin_shows_endpoints_and_deliveries_and_no_secret(shop: ApiClient, receiver: Receiver) -> None:
    made = registered(shop, receiver.url)
    opens_account()
    everything_is_walked()
    administrator = Client()
    administrator.force_login(User.objects.create_superuser("boss"))
    pages = [
        administrator.get(f"/admin/eventing/webhookendpoint/{path}").content.decode()
        for path in ("", f"{made['id']}/change/")
    ]
    assert all(receiver.url in page for page in pages)
    assert not any("whsec_" in page for page in pages)
    delivery = WebhookDelivery.objects.get()
    assert administrator.get(f"/admin/eventing/webhookdelivery/{delivery.pk}/change/").status_code == 200


def test_a_secret_is_told_at_once_and_never_again_whatever_is_preferred(shop: ApiClient) -> None:
    later = {"Prefer": "respond-async"}
    made = shop.post(ENDPOINTS, {"url": PUBLIC}, headers=later)
    rotated = shop.post(f"{made['Location']}/rotate-secret", {}, headers=later)
    assert (made.status_code, rotated.status_code) == (201, 200)
    assert made.json()["secret"].startswith("whsec_")
    assert not RequestedCommand.objects.exists()


def test_a_new_secret_takes_a_key_so_that_a_repeat_makes_no_other(shop: ApiClient) -> None:
    rotate = f"{shop.post(ENDPOINTS, {'url': PUBLIC})['Location']}/rotate-secret"
    assert shop.post(rotate, {}, headers={"Idempotency-Key": ""}).json()["code"] == "idempotency-key-missing"
    first, again = (shop.post(rotate, {}, headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert again.content == first.content
