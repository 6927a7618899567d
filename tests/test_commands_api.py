"""Requests that are carried out later, and what became of them."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from eventing import requested
from eventing.models import RequestedCommand, RequestedPart, SavedAnswer, StoredEvent
from eventing.testing import settle
from tests.articles import on_sale
from tests.builders import HEART, LANTERN
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = "/api/v1/orders"
BULK = "/api/v1/orders/bulk"
COMMANDS = "/api/v1/commands"
ITEMS = "/api/v1/inventory/items"
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


def test_one_that_was_done_by_a_worker_that_died_before_noting_it_is_not_given_up(
    ann: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    RequestedPart.objects.update(attempts=7)
    with monkeypatch.context() as dying:
        dying.setattr("eventing.requested._note", _die)
        with pytest.raises(KeyboardInterrupt):
            requested.work()
    RequestedCommand.objects.update(due_at=timezone.now())
    worked()
    assert ann.get(accepted["Location"]).json()["state"] == "succeeded"


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
    assert ben.get(COMMANDS).json()["results"] == []
    for client in (ann, viewer):
        assert client.get(accepted["Location"]).status_code == 200
        assert len(client.get(COMMANDS).json()["results"]) == 1


def test_what_others_were_answered_is_only_for_those_who_may_see_it(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, {**ORDER, "contact": {"name": "Ada Quill"}}, headers=LATER)
    worked()
    viewer, officer = (
        api_of("viewer", "view_requestedcommand"),
        api_of("boss", "view_requestedcommand", "view_personal_data"),
    )
    assert "Quill" not in viewer.get(accepted["Location"]).content.decode()
    assert "Quill" in officer.get(accepted["Location"]).content.decode()
    assert "Quill" in ann.get(accepted["Location"]).content.decode()
    assert viewer.get(accepted["Location"]).json()["state"] == "succeeded"


def test_a_list_of_commands_is_short_whatever_they_were_answered(
    ann: ApiClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        ann.post(ORDERS, ORDER, headers=LATER)
    worked()
    ann.get(COMMANDS)
    for limit in (1, 5):
        with django_assert_num_queries(2):
            commands = ann.get(COMMANDS, {"limit": limit}).json()["results"]
        assert len(commands) == limit
        assert all("result" not in command for command in commands)
        assert commands[0]["progress"] == {"done": 1, "total": 1}


@pytest.mark.parametrize("parameters", [{"limit": "abc"}, {"limit": ["1", "2"]}, {"state": "failed"}])
def test_parameters_of_a_list_of_commands_that_can_not_be_accepted_are_named(ann: ApiClient, parameters: Any) -> None:
    answer = ann.get(COMMANDS, parameters)
    assert (answer.status_code, [each["parameter"] for each in answer.json()["errors"]]) == (400, list(parameters))


def test_what_a_command_wrote_can_be_waited_for(ann: ApiClient) -> None:
    accepted = ann.post(ORDERS, ORDER, headers=LATER)
    assert "Consistency-Token" not in accepted.headers
    assert "Consistency-Token" not in ann.get(accepted["Location"]).headers
    worked()
    token = {"Consistency-Token": ann.get(accepted["Location"])["Consistency-Token"]}
    assert ann.get(ORDERS, headers={**token, "Prefer": "wait=0"}).status_code == 503
    settle()
    assert len(ann.get(ORDERS, headers={**token, "Prefer": "wait=0"}).json()["results"]) == 1


@pytest.mark.parametrize("sku", ["TEA POT", "CAFÉ", "50%", "a?b#c"])
def test_an_address_is_the_same_later(sku: str) -> None:
    clerk = api_of("clerk", "change_stocklevel")
    clerk.post(ITEMS, {"sku": sku, "description": "A thing", "list_price": {"amount": 1, "currency": "GBP"}})
    accepted = clerk.post(f"{ITEMS}/{quote(sku)}/receive", {"quantity": 5}, headers=LATER)
    worked()
    command = clerk.get(accepted["Location"]).json()
    assert (command["state"], command["problem"]) == ("succeeded", None)
    assert command["result"]["sku"] == sku


@pytest.mark.parametrize(("content_type", "body", "status"), [("text/plain", "x", 415), ("application/json", "{", 400)])
def test_what_can_not_be_read_is_not_accepted(ann: ApiClient, content_type: str, body: str, status: int) -> None:
    assert ann.post(ORDERS, body, content_type=content_type, headers=LATER).status_code == status
    assert not RequestedCommand.objects.exists()


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
    assert [price["pointer"] for price in results[5]["problem"]["prices"]] == ["#/orders/5/lines/0/unit_price"]
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
    (refused,) = (each for each in results if each["status"] == 400)
    assert refused["index"] == 500
    assert [error["pointer"] for error in refused["problem"]["errors"]] == ["#/orders/500/lines"]
    assert len(set(_placed())) == 502


def test_no_order_makes_others_fail_that_are_carried_out_with_it(ann: ApiClient) -> None:
    order = {"lines": [{"sku": HEART, "quantity": 1, "description": "ハート" * 80}]}
    half = {"lines": [{"sku": HEART, "quantity": 1.5, "description": "\ud800"}]}
    body = json.dumps({"orders": [order] * 3 + [half] + [order] * 500}, ensure_ascii=False)
    accepted = ann.post(BULK, body.replace("\ud800", "\\ud800"), content_type="application/json")
    worked()
    results = ann.get(accepted["Location"]).json()["result"]["results"]
    assert [each["index"] for each in results if each["status"] != 201] == [3]
    assert StoredEvent.objects.filter(type="orders.order_placed").count() == 503


def test_orders_of_very_many_lines_are_done_in_parts_too(ann: ApiClient) -> None:
    long = {"lines": [{"sku": HEART, "quantity": 1}] * 4_000}
    assert ann.post(BULK, {"orders": [long] * 2 + ["no order"]}).status_code == 207
    accepted = ann.post(BULK, {"orders": [long] * 3})
    assert accepted.status_code == 202
    assert list(RequestedPart.objects.order_by("number").values_list("first_item", "items")) == [(0, 2), (2, 1)]


@pytest.mark.parametrize("gone", ["account", "answer", "row", "worker"])
def test_of_a_part_that_tells_nothing_every_order_tells_why(ann: ApiClient, gone: str) -> None:
    accepted = ann.post(BULK, {"orders": [ORDER] * 501})
    if gone == "account":
        User.objects.filter(username="ann").update(is_active=False)
    if gone == "worker":
        RequestedPart.objects.filter(number=0).update(attempts=8)
    worked()
    if gone == "answer":
        SavedAnswer.objects.filter(requestedpart__number=0).update(body=None)
    if gone == "row":
        SavedAnswer.objects.filter(requestedpart__number=0).delete()

    command = ann.get(accepted["Location"]).json()
    results = command["result"]["results"]
    assert [each["index"] for each in results] == list(range(501))
    first, last = results[0], results[500]
    assert (first["status"], first["problem"]["code"]) == {
        "account": (401, "authentication-failed"),
        "answer": (410, "answer-forgotten"),
        "row": (410, "answer-forgotten"),
        "worker": (500, "error"),
    }[gone]
    assert last["status"] == (401 if gone == "account" else 201)
    ended = {"account": ("failed", 0), "worker": ("partially_succeeded", 1)}
    assert (command["state"], len(_placed())) == ended.get(gone, ("succeeded", 501))


def test_many_that_all_fail_are_results_and_no_problem(ann: ApiClient) -> None:
    accepted = ann.post(BULK, {"orders": ["no order"] * 2}, headers=LATER)
    worked()
    command = ann.get(accepted["Location"]).json()
    assert (command["state"], command["problem"]) == ("failed", None)
    assert [each["status"] for each in command["result"]["results"]] == [400, 400]


def test_commands_take_turns(ann: ApiClient) -> None:
    long = ann.post(BULK, {"orders": ["no order"] * 1_001})
    short = ann.post(ORDERS, ORDER, headers=LATER)
    for _ in range(2):
        assert requested.work()
    assert ann.get(long["Location"]).json()["progress"] == {"done": 1, "total": 3}
    assert ann.get(short["Location"]).json()["state"] == "succeeded"


def test_orders_in_bulk_wait_for_the_prices_that_their_client_has_seen_listed() -> None:
    clerk = api_of("clerk", "change_stocklevel")
    heart = {"sku": HEART, "description": "Heart", "list_price": {"amount": 255, "currency": "GBP"}}
    headers = {"Consistency-Token": clerk.post(ITEMS, heart)["Consistency-Token"], "Prefer": "wait=0"}
    assert clerk.post(BULK, {"orders": [ORDER]}, headers=headers).status_code == 503
    settle()
    assert clerk.post(BULK, {"orders": [ORDER]}, headers=headers).json()["results"][0]["status"] == 201


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
