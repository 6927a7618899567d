"""How many requests an account may make."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_django import Settings
from redis import RedisError

from config import throttling
from eventing import nudges
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db

NOW = 1_795_000_000 // 60 * 60 + 20
ORDERS = "/api/v1/orders"


@pytest.fixture(autouse=True)
def a_window_of_its_own(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Counting begins anew, three requests are allowed, and time stands still."""
    redis = nudges.redis()
    for name in redis.scan_iter("waybill:rate:*"):
        redis.delete(name)
    settings.API_RATE, settings.API_RATE_ANONYMOUS = 3, 2
    monkeypatch.setattr(throttling, "_now", lambda: NOW)


def test_an_account_is_told_where_it_stands_and_when_it_is_too_much() -> None:
    ann = api_of("ann")
    answers = [ann.get(ORDERS) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"account";q=3;w=60'}
    assert [answer["RateLimit"] for answer in answers] == [f'"account";r={left};t=40' for left in (2, 1, 0, 0)]
    assert (answers[3].json()["code"], answers[3]["Retry-After"]) == ("throttled", "40")


def test_each_account_is_counted_for_itself_and_whatever_it_asks() -> None:
    ann, ben = api_of("ann"), api_of("ben")
    for path in (ORDERS, "/api/v1/inventory/items", "/api/v1/orders"):
        assert ann.get(path).status_code == 200
    assert ann.post(ORDERS, {}).status_code == 429
    assert ben.get(ORDERS).status_code == 200


def test_a_new_window_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ann = api_of("ann")
    assert [ann.get(ORDERS).status_code for _ in range(4)][-1] == 429
    monkeypatch.setattr(throttling, "_now", lambda: NOW + 40)
    assert ann.get(ORDERS).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer wb_guessed"])
def test_who_is_not_known_is_counted_by_address(authorization: str) -> None:
    def ask(address: str) -> Any:
        headers = {"Authorization": authorization} if authorization else {}
        return ApiClient().get(ORDERS, REMOTE_ADDR=address, headers=headers)

    answers = [ask("192.0.2.1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert [answer["RateLimit"] for answer in answers] == [f'"address";r={left};t=40' for left in (1, 0, 0)]
    assert (answers[2].json()["code"], answers[2]["Retry-After"]) == ("throttled", "40")
    assert ask("192.0.2.2").status_code == 401


def test_what_an_account_may_not_do_counts_too_and_once() -> None:
    ann = api_of("ann")
    answers = [ann.get("/api/v1/payments") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 429]
    assert [answer["RateLimit"] for answer in answers] == [f'"account";r={left};t=40' for left in (2, 1, 0, 0)]


def test_while_redis_is_away_nobody_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: str) -> int:
        raise RedisError("Connection refused")

    monkeypatch.setattr(throttling, "_count", away)
    answers = [api_of("ann").get(ORDERS) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any(re.match("RateLimit", name) for name in answers[0].headers)
