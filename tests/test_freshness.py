"""How a reader sees what was written a moment ago, and changes only what it has seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from rest_framework.request import Request

from eventing import deliveries
from eventing.checkpoints import pause
from eventing.freshness import LONGEST_PAUSE, WAIT
from eventing.handlers import dispatch
from eventing.headers import preferences
from eventing.models import Delivery, StoredEvent
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from tests.articles import on_sale
from tests.builders import HEART, pounds
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = "/api/v1/orders"
ORDER = {"lines": [{"sku": HEART, "quantity": 2}]}
ITEM = f"/api/v1/inventory/items/{HEART}"
NOW = {"Prefer": "wait=0"}
NOBODYS = f"{ORDERS}/01a20000-0000-7000-8000-00000000dead"


@pytest.fixture
def ann() -> ApiClient:
    on_sale({HEART: 255})
    return api_of("ann")


@contextmanager
def workers_after(seconds: float) -> Iterator[None]:
    """Workers that begin their work in a while."""

    def work() -> None:
        settle()
        connection.close()

    later = threading.Timer(seconds, work)
    later.start()
    yield
    later.join()


def assert_behind(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "projection-behind")
    assert answer["Retry-After"] == "1"


def test_a_reader_that_brings_the_token_along_waits_for_what_it_wrote(ann: ApiClient) -> None:
    placed = ann.post(ORDERS, ORDER)
    with workers_after(0.3):
        listed = ann.get(ORDERS, headers={"Consistency-Token": placed["Consistency-Token"]})
    assert [order["order_id"] for order in listed.json()["results"]] == [placed.json()["order_id"]]


def test_without_workers_it_is_told_that_the_read_model_is_behind(ann: ApiClient) -> None:
    token = {"Consistency-Token": ann.post(ORDERS, ORDER)["Consistency-Token"]}
    assert_behind(ann.get(ORDERS, headers={**token, **NOW}))
    sum(relay_all())  # it has its place in the log now, and the read model isn't there yet
    assert_behind(ann.get(ORDERS, headers={**token, **NOW}))
    settle()
    assert ann.get(ORDERS, headers={**token, **NOW}).status_code == 200


def test_a_read_waits_for_its_own_read_model_and_for_its_own_partition_alone(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)
    pause(subscription_named("inventory.StockLevels"))
    settle()
    token = {"Consistency-Token": order["Consistency-Token"]}
    assert ann.get(order["Location"], headers={**token, **NOW}).status_code == 200
    assert_behind(ann.get("/api/v1/inventory/items", headers={**token, **NOW}))


def test_an_event_that_was_set_aside_because_it_failed_has_not_been_seen(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)
    settle()
    event = StoredEvent.objects.get(type="orders.order_placed")
    summaries = subscription_named("orders.OrderSummaries")
    entry = deliveries.Entry(order.json()["order_id"], event.id, 1)
    deliveries.park(summaries, summaries.partition_of(entry.sequence), entry, ValueError("no"))
    assert_behind(ann.get(ORDERS, headers={"Consistency-Token": order["Consistency-Token"], **NOW}))
    Delivery.objects.update(state="done")
    assert ann.get(ORDERS, headers={"Consistency-Token": order["Consistency-Token"], **NOW}).status_code == 200


def test_a_write_that_changed_nothing_is_seen_when_all_before_it_is(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)["Location"]
    for _ in range(2):
        token = {"Consistency-Token": ann.post(f"{order}/cancel", {"reason": "x"})["Consistency-Token"]}
        assert_behind(ann.get(ORDERS, headers={**token, **NOW}))
    settle()
    again = ann.post(f"{order}/cancel", {"reason": "x"})["Consistency-Token"]
    assert ann.get(ORDERS, headers={"Consistency-Token": again, **NOW}).status_code == 200


def test_a_reader_can_ask_for_a_version_of_an_order(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)["Location"]
    assert_behind(ann.get(order, headers={"X-Min-Version": "1", **NOW}))
    settle()
    assert ann.get(order, headers={"X-Min-Version": "1", **NOW}).status_code == 200
    assert_behind(ann.get(order, headers={"X-Min-Version": "99", **NOW}))


def test_nobody_learns_by_asking_for_a_version_which_orders_others_have(ann: ApiClient) -> None:
    order, ben = ann.post(ORDERS, ORDER)["Location"], api_of("ben")
    settle()
    for path in (order, NOBODYS):
        for version in ("1", "2", "99"):
            answer = ben.get(path, headers={"X-Min-Version": version, **NOW})
            assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("path", "header", "value"),
    [
        (ORDERS, "Consistency-Token", "made up"),
        (ORDERS, "Consistency-Token", "17:forged"),
        (ORDERS, "X-Min-Version", "1"),
        (NOBODYS, "X-Min-Version", "0"),
        (NOBODYS, "X-Min-Version", "-1"),
        (NOBODYS, "X-Min-Version", "9" * 5000),
        (NOBODYS, "X-Min-Version", "one"),
    ],
)
def test_what_is_no_token_and_no_version_is_refused(ann: ApiClient, path: str, header: str, value: str) -> None:
    answer = ann.get(path, headers={header: value})
    assert answer.status_code == 400
    assert [error["header"] for error in answer.json()["errors"]] == [header]


def test_the_stream_is_never_behind(ann: ApiClient) -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    settle()
    pause(subscription_named("inventory.StockLevels"))
    received = api_of("clerk", "change_stocklevel").post(f"{ITEM}/receive", {"quantity": 10})
    headers = {"Consistency-Token": received["Consistency-Token"], **NOW}
    assert_behind(ann.get(ITEM, headers=headers))
    assert ann.get(ITEM).json()["on_hand"] == 0
    assert ann.get(f"{ITEM}?source=stream", headers=headers).json()["on_hand"] == 10
    assert ann.get(f"{ITEM}/availability?source=stream&quantity=10").json()["enough"] is True


def test_an_order_is_read_from_its_stream_or_as_it_was_and_not_both(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)
    assert ann.get(f"{order['Location']}?source=stream").json() == order.json()
    for asked in ("source=somewhere", "source=stream&version=1", "source=stream&at=2026-11-23T00:00:00Z"):
        assert ann.get(f"{order['Location']}?{asked}").status_code == 400


def test_reads_tell_how_far_their_read_model_is(ann: ApiClient) -> None:
    ann.post(ORDERS, ORDER)
    settle()
    at_rest = ann.get(ORDERS)
    pause(subscription_named("orders.OrderSummaries"))
    ann.post(ORDERS, ORDER)
    sum(relay_all())
    behind = ann.get(ORDERS)

    assert int(at_rest["X-Projection-Position"]) > 0
    assert at_rest["X-Projection-Lag-Ms"] == "0"
    assert behind["X-Projection-Position"] == at_rest["X-Projection-Position"]
    assert "X-Projection-Lag-Ms" in behind.headers
    assert "X-Projection-Position" not in ann.get(f"{ORDERS}/{uuid4()}?source=stream").headers


def test_an_order_is_cancelled_only_at_the_version_that_was_seen(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)
    path = f"{order['Location']}/cancel"

    for wrong in ('"2"', '"0"', 'W/"1"', '"2", "3"', '"x"'):
        refused = ann.post(path, {"reason": "x"}, headers={"If-Match": wrong})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed"), wrong
        assert refused.json()["current_version"] == 1
    for bad in ("1", "'1'", '"1'):
        assert ann.post(path, {"reason": "x"}, headers={"If-Match": bad}).json()["errors"][0]["header"] == "If-Match"
    assert StoredEvent.objects.count() == 1

    assert ann.post(path, {"reason": "x"}, headers={"If-Match": f'"7", {order["ETag"]}'}).status_code == 200
    assert ann.post(path, {"reason": "x"}, headers={"If-Match": "*"}).status_code == 200


def test_of_many_who_saw_the_same_version_one_changes_it() -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    dispatch(ReceiveStock(sku=HEART, quantity=10))
    api_of("clerk", "change_stocklevel")

    def adjust(statuses: list[int]) -> None:
        clerk = ApiClient()
        clerk.force_authenticate(User.objects.get(username="clerk"))
        answer = clerk.post(f"{ITEM}/adjust", {"change": -1, "reason": "Broken"}, headers={"If-Match": '"2"'})
        statuses.append(answer.status_code)
        connection.close()

    statuses: list[int] = []
    threads = [threading.Thread(target=adjust, args=[statuses]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_of_many_at_the_same_article_nobody_hears_of_the_others() -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    api_of("clerk", "change_stocklevel")

    def receive(number: int) -> int:
        clerk = ApiClient()
        clerk.force_authenticate(User.objects.get(username="clerk"))
        status: int = clerk.post(f"{ITEM}/receive", {"quantity": 1, "reference": f"D-{number}"}).status_code
        connection.close()
        return status

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(receive, range(24))) == {200}
    assert api_of("ann").get(f"{ITEM}?source=stream").json()["on_hand"] == 24


def test_a_reader_waits_for_two_seconds_and_never_more_than_ten(ann: ApiClient) -> None:
    token = {"Consistency-Token": ann.post(ORDERS, ORDER)["Consistency-Token"]}
    began = time.monotonic()
    assert_behind(ann.get(ORDERS, headers=token))
    assert time.monotonic() - began > WAIT - LONGEST_PAUSE
    assert WAIT == 2
    for preferred, seconds in (("wait=3", 3), ("respond-async, WAIT = 10", 10), ("wait=600", 10), ("wait=soon", None)):
        asked = Request(RequestFactory().get("/", headers={"Prefer": preferred}))
        assert preferences(asked).wait == seconds


def test_an_article_that_has_not_changed_is_not_sent_again(ann: ApiClient) -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    settle()
    known = ann.get(ITEM)["ETag"]
    assert ann.get(ITEM, headers={"If-None-Match": known}).status_code == 304
    dispatch(ReceiveStock(sku=HEART, quantity=10))
    settle()
    assert ann.get(ITEM, headers={"If-None-Match": known}).status_code == 200
