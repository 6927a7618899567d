"""Requests that are carried out later, and what became of them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from eventing import requested
from eventing.models import RequestedCommand, RequestedPart, StoredEvent
from tests.articles import on_sale
from tests.builders import HEART, LANTERN
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = "/api/v1/orders"
BULK = "/api/v1/orders/bulk"
LATER = {"Prefer": "respond-async"}
ORDER: dict[str, Any] = {"lines": [{"sku": HEART, "quantity": 2}]}


@pytest.fixture
def ann() -> ApiClient:
    on_sale({HEART: 255, LANTERN: 339})
    return api_of("ann")


def worked() -> None:
    """Let a worker carry out all that it can."""
    while requested.work():
        pass


def test_an_order_is_placed_later_and_its_answer_is_the_commands_result(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    assert (accepted.status_code, accepted["Preference-Applied"]) == (202, "respond-async")
    assert not StoredEvent.objects.exists()
    command = ann.get(accepted["Location"])
    assert (command.json()["state"], command.json()["progress"]) == ("pending", {"done": 0, "total": 1})
    assert command["Retry-After"] == "1"

    worked()

    ended = ann.get(accepted["Location"])
    assert (ended.json()["state"], ended.json()["problem"]) == ("succeeded", None)
    assert ended.json()["progress"] == {"done": 1, "total": 1}
    assert "Retry-After" not in ended.headers
    order = ended.json()["result"]
    assert ann.get(f"{ORDERS}/{order['order_id']}").json()["total"] == {"amount": 510, "currency": "GBP"}
    assert StoredEvent.objects.get().actor == "ann"


def test_sent_again_it_is_accepted_once(ann: ApiClient) -> None:
    headers = {**LATER, "Idempotency-Key": "once"}
    first, again = (ann.post(ORDERS, ORDER, headers=headers) for _ in range(2))
    worked()
    assert again.content == first.content
    assert again["Location"] == first["Location"]
    assert ann.post(ORDERS, ORDER, headers=headers).content == first.content
    assert StoredEvent.objects.filter(type="orders.order_placed").count() == 1


def test_what_a_rule_forbids_is_the_commands_problem(ann: ApiClient) -> None:
    seen = {"lines": [{"sku": HEART, "quantity": 1, "unit_price": {"amount": 1, "currency": "GBP"}}]}
    for body, code, status in ((seen, "price-changed", 409), ({"lines": []}, "invalid", 400)):
        accepted = ann.post(ORDERS, body, headers=LATER)
        worked()
        command = ann.get(accepted["Location"]).json()
        assert (command["state"], command["result"]) == ("failed", None)
        assert (command["problem"]["code"], command["problem"]["status"]) == (code, status)
    assert not StoredEvent.objects.exists()


def test_a_worker_that_dies_at_any_moment_places_it_once(ann: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    body = RequestedPart.objects.get().body
    for where in ("eventing.requested._made", "eventing.requested._end"):
        with monkeypatch.context() as dying:
            dying.setattr(where, _die)
            with pytest.raises(KeyboardInterrupt):
                requested.work()
        RequestedCommand.objects.update(due_at=timezone.now())  # its lease ends
    assert RequestedPart.objects.get().attempts == 2
    RequestedPart.objects.update(status=None, answer=None, body=body)  # as if it had died before it noted the answer

    worked()

    assert ann.get(accepted["Location"]).json()["state"] == "succeeded"
    assert StoredEvent.objects.filter(type="orders.order_placed").count() == 1


def test_one_that_never_ends_is_given_up(ann: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    monkeypatch.setattr("eventing.requested._made", _die)
    for _ in range(8):
        with pytest.raises(KeyboardInterrupt):
            requested.work()
        RequestedCommand.objects.update(due_at=timezone.now())
    worked()
    command = ann.get(accepted["Location"]).json()
    assert (command["state"], command["problem"]["status"]) == ("failed", 500)


def test_one_that_fails_for_a_moment_is_tried_again(ann: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    with monkeypatch.context() as failing:
        failing.setattr("orders.api.as_told_by", lambda records: 1 / 0)
        assert requested.work()
    assert ann.get(accepted["Location"]).json()["state"] == "running"
    RequestedCommand.objects.update(due_at=timezone.now())
    worked()
    assert ann.get(accepted["Location"]).json()["state"] == "succeeded"


def test_an_account_that_was_closed_meanwhile_places_nothing(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    User.objects.filter(username="ann").update(is_active=False)
    worked()
    assert ann.get(accepted["Location"]).json()["problem"]["code"] == "authentication-failed"
    assert not StoredEvent.objects.exists()


def test_everybody_sees_their_own_commands(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    ben, viewer = api_of("ben"), api_of("viewer", "view_requestedcommand")
    assert ben.get(accepted["Location"]).status_code == 404
    assert ben.get("/api/v1/commands").json()["results"] == []
    for client in (ann, viewer):
        assert client.get(accepted["Location"]).status_code == 200
        assert len(client.get("/api/v1/commands").json()["results"]) == 1


def test_what_others_were_answered_is_only_for_those_who_may_see_it(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, {**ORDER, "contact": {"name": "Ada Quill"}}, headers=LATER)
    worked()
    viewer, officer = (
        api_of("viewer", "view_requestedcommand"),
        api_of("boss", "view_requestedcommand", "view_personal_data"),
    )
    for path in (accepted["Location"], "/api/v1/commands"):
        assert "Quill" not in viewer.get(path).content.decode()
        assert "Quill" in officer.get(path).content.decode()
        assert "Quill" in ann.get(path).content.decode()
    assert viewer.get(accepted["Location"]).json()["state"] == "succeeded"


def test_who_waits_is_answered_as_soon_as_it_has_ended(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)

    def work() -> None:
        worked()
        connection.close()

    soon = threading.Timer(0.3, work)
    soon.start()
    answer = ann.get(accepted["Location"], headers={"Prefer": "wait=10"})
    soon.join()
    assert (answer.json()["state"], answer["Preference-Applied"]) == ("succeeded", "wait=10")


def test_who_would_wait_for_it_is_answered_at_once(ann: ApiClient) -> None:
    assert ann.post(ORDERS, ORDER, headers={"Prefer": "respond-async, wait=5"}).status_code == 201


def test_a_precondition_holds_when_it_is_carried_out(ann: ApiClient) -> None:
    order = ann.post(ORDERS, ORDER)
    cancel = ann.post(f"{order['Location']}/cancel", {"reason": "x"}, headers={**LATER, "If-Match": '"7"'})
    worked()
    assert ann.get(cancel["Location"]).json()["problem"]["code"] == "precondition-failed"


def test_what_it_says_is_sealed_while_it_waits_and_gone_when_it_is_done(ann: ApiClient) -> None:
    ann.post(ORDERS, {**ORDER, "contact": {"name": "Ada Quill"}}, headers=LATER)
    assert b"Quill" not in bytes(RequestedPart.objects.get().body or b"")
    worked()
    assert RequestedPart.objects.get().body is None


def test_commands_are_kept_for_a_day_after_their_end(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    worked()
    requested.purge()
    assert ann.get(accepted["Location"]).status_code == 200
    RequestedCommand.objects.update(ended_at=timezone.now() - timedelta(hours=25))
    requested.purge()
    assert ann.get(accepted["Location"]).status_code == 404


def test_many_orders_are_each_placed_or_refused(ann: ApiClient) -> None:
    mine = str(uuid4())
    orders: list[Any] = [
        ORDER,
        {**ORDER, "order_id": mine},
        {"lines": [{"sku": "unheard of", "quantity": 1}]},
        {"lines": [{"sku": HEART, "quantity": 0}]},
        "no order",
        {"lines": [{"sku": HEART, "quantity": 1, "unit_price": {"amount": 1, "currency": "GBP"}}]},
        {**ORDER, "customer_id": str(uuid4())},
        {**ORDER, "order_id": mine, "reference": "another"},
        {"lines": [{"sku": LANTERN, "quantity": 1}]},
    ]
    answer = ann.post(BULK, {"orders": orders})

    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [each["index"] for each in results] == list(range(9))
    assert [each["status"] for each in results] == [201, 201, 400, 400, 400, 409, 403, 409, 201]
    assert results[1]["location"] == f"{ORDERS}/{mine}"
    pointers = [[error["pointer"] for error in results[index]["problem"]["errors"]] for index in (2, 3, 4)]
    assert pointers == [["#/orders/2/lines/0/sku"], ["#/orders/3/lines/0/quantity"], ["#/orders/4"]]
    assert [results[index]["problem"]["code"] for index in (5, 6, 7)] == [
        "price-changed",
        "permission-denied",
        "rejected",
    ]
    assert StoredEvent.objects.filter(type="orders.order_placed").count() == 3
    assert {each["order_id"] for each in results if each["status"] == 201} == set(_placed())


def test_five_hundred_are_placed_at_once_and_once(ann: ApiClient) -> None:
    headers = {"Idempotency-Key": "batch"}
    first, again = (ann.post(BULK, {"orders": [ORDER] * 500}, headers=headers) for _ in range(2))
    assert {each["status"] for each in first.json()["results"]} == {201}
    assert again.content == first.content
    assert len(set(_placed())) == 500


def test_more_than_five_hundred_are_a_command_that_is_done_in_parts(ann: ApiClient) -> None:
    orders = [ORDER] * 500 + [{"lines": []}] + [ORDER] * 2
    accepted = ann.post(BULK, {"orders": orders})
    assert (accepted.status_code, "Preference-Applied" in accepted.headers) == (202, False)
    worked()
    command = ann.get(accepted["Location"]).json()
    assert (command["state"], command["progress"]) == ("partially_succeeded", {"done": 2, "total": 2})
    results = command["result"]["results"]
    assert [each["index"] for each in results] == list(range(503))
    assert [each["index"] for each in results if each["status"] == 400] == [500]
    assert len(set(_placed())) == 502


@pytest.mark.parametrize("body", [{}, {"orders": []}, {"orders": {}}, {"orders": [ORDER], "x": 1}, []])
def test_what_is_no_list_of_orders_is_refused_as_a_whole(ann: ApiClient, body: Any) -> None:
    answer = ann.post(BULK, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_no_more_than_ten_thousand_come_at_once(ann: ApiClient) -> None:
    answer = ann.post(BULK, {"orders": [{}] * 10_001})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/orders"]


def _placed() -> list[str]:
    return list(StoredEvent.objects.filter(type="orders.order_placed").values_list("stream_id", flat=True))


def _die(*_: Any) -> None:
    raise KeyboardInterrupt
