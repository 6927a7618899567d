from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings
from rest_framework.exceptions import Throttled

from config.bodies import LARGEST_BODY
from config.problems import PROBLEMS
from eventing.domain import Rejected
from eventing.models import StoredEvent
from eventing.records import Stream
from eventing.store import ConflictError
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db

ORDERS = "/api/v1/orders"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONFLICT = ConflictError(Stream("order", "17"), 1, 2)


@pytest.fixture
def ann() -> ApiClient:
    client = ApiClient(raise_request_exception=False)
    client.force_authenticate(User.objects.create_user("ann"))
    return client


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every read of an order's stream fail."""

    def fail_with(error: Exception) -> None:
        def read(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("eventing.store.read", read)

    return fail_with


def assert_is_problem(answer: Any, status: int, code: str) -> None:
    problem = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"/problems/{code}"
    assert problem["title"] == PROBLEMS[code].title
    assert PROBLEMS[code].status == status
    assert problem["detail"]
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])
    assert "Traceback" not in answer.content.decode()


def test_nobody_is_asked_who_it_is(client: Client) -> None:
    answer = client.get(ORDERS)
    assert_is_problem(answer, 401, "not-authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["wb_0", "a b", "\xff\xfe", "wb_\0", "", "x" * 5000])
def test_a_token_that_is_none_is_refused(client: Client, token: str) -> None:
    answer = client.get(ORDERS, headers={"Authorization": f"Bearer {token}"})
    assert_is_problem(answer, 401, "authentication-failed")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("path", ["/api/", "/api/v1/nothing", "/api/v1/orders/", "/api/v9/orders", "/api/v1/%00"])
def test_unknown_addresses_of_the_api_are_problems(client: Client, settings: Settings, path: str, debug: bool) -> None:
    settings.DEBUG = debug
    assert_is_problem(client.get(path), 404, "not-found")
    assert_is_problem(client.post(path), 404, "not-found")


def test_unknown_addresses_for_people_are_pages(client: Client) -> None:
    answer = client.get("/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "nothing at this address" in answer.content.decode()


def test_an_unknown_method_is_a_problem(ann: ApiClient) -> None:
    answer = ann.delete(ORDERS)
    assert_is_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer["Allow"]


def test_only_json_is_offered(ann: ApiClient) -> None:
    assert_is_problem(ann.get(ORDERS, headers={"Accept": "text/html"}), 406, "not-acceptable")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
def test_only_json_is_read(ann: ApiClient, content_type: str) -> None:
    assert_is_problem(ann.post(ORDERS, "lines=1", content_type=content_type), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"reference": }', "line 1, column 15"),
        (b'{"reference": "PO-17"', "line 1, column 22"),
        (b'{"reference": "PO\n17"}', "line 1"),
        (b'{"reference": "\xff"}', "byte 16"),
        (b'{"lines": [], "lines": []}', "same name twice"),
        (b'{"lines": [{"sku": 1, "sku": 2}]}', "same name twice"),
        (b'{"lines": NaN}', "NaN"),
        (b'{"lines": -Infinity}', "Infinity"),
        (b'{"lines": 1e999}', "too large"),
        (b'{"lines": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"lines":' * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_is_a_problem_that_says_where(ann: ApiClient, body: bytes, said: str) -> None:
    answer = ann.post(ORDERS, body, content_type="application/json")
    assert_is_problem(answer, 400, "parse-error")
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["base64", "utf-16", "nonsense"])
def test_json_is_utf_8_whatever_the_header_says(ann: ApiClient, charset: str) -> None:
    answer = ann.post(ORDERS, b'{"reference": 17}', content_type=f"application/json; charset={charset}")
    assert_is_problem(answer, 400, "invalid")


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(ann: ApiClient) -> None:
    assert_is_problem(ann.post(ORDERS, b" " * LARGEST_BODY, content_type="application/json"), 400, "parse-error")
    answer = ann.post(ORDERS, b" " * (LARGEST_BODY + 1), content_type="application/json")
    assert_is_problem(answer, 413, "body-too-large")
    assert "1,048,576" in answer.json()["detail"]
    assert not StoredEvent.objects.exists()


def test_many_orders_may_be_larger_and_ten_megabytes_are_too_much(ann: ApiClient) -> None:
    for size, status in ((2_000_000, 400), (10_000_000, 413)):
        answer = ann.post(f"{ORDERS}/bulk", b" " * size, content_type="application/json")
        assert answer.status_code == status, size
    assert_is_problem(answer, 413, "body-too-large")
    assert not StoredEvent.objects.exists()


def test_a_page_takes_no_large_body_either(client: Client) -> None:
    answer = client.post("/admin/login/", b"x" * (LARGEST_BODY + 1), content_type="text/plain")
    assert (answer.status_code, answer["Content-Type"]) == (413, "text/plain")


def test_of_very_many_unknown_fields_the_first_are_named(ann: ApiClient) -> None:
    answer = ann.post(ORDERS, {f"field{number}": 1 for number in range(50_000)})
    assert_is_problem(answer, 400, "invalid")
    assert len(answer.json()["errors"]) == 20 + 1  # there are no lines, either


def test_a_list_that_is_too_long_is_not_read(ann: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("This is read.")

    monkeypatch.setattr("orders.serializers.LineSerializer.to_internal_value", read)
    answer = ann.post(ORDERS, {"lines": [{}] * 5_001})
    assert_is_problem(answer, 400, "invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/lines"]


def test_what_does_something_takes_no_parameters(ann: ApiClient) -> None:
    answer = ann.post(f"{ORDERS}?dry_run=true", {"lines": []})
    assert_is_problem(answer, 400, "invalid")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["dry_run"]


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/schema", ORDERS])
@pytest.mark.parametrize("method", ["post", "put", "options", "delete"])
def test_a_method_that_is_not_offered_is_a_problem_in_json_whatever_the_page_is_made_of(
    client: Client, path: str, method: str
) -> None:
    answer = getattr(client, method)(path)
    assert_is_problem(answer, *((405, "method-not-allowed") if path != ORDERS else (401, "not-authenticated")))


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/schema", ORDERS])
def test_a_format_that_is_not_offered_is_a_problem_in_json(ann: ApiClient, path: str) -> None:
    assert_is_problem(ann.get(path, headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_a_body_has_to_say_its_length(ann: ApiClient) -> None:
    answer = ann.post(ORDERS, headers={"Transfer-Encoding": "chunked"}, CONTENT_LENGTH="")
    assert_is_problem(answer, 411, "length-required")


def test_a_foreign_host_name_is_a_problem(ann: ApiClient) -> None:
    assert_is_problem(ann.get(ORDERS, headers={"Host": "evil.example"}), 400, "parse-error")


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Rejected("The order is closed."), 409, "rejected", None),
        (CONFLICT, 409, "conflict", "1"),
        (Throttled(wait=7), 429, "throttled", "7"),
        (OperationalError("secret host is down"), 503, "unavailable", "5"),
        (SuspiciousOperation("secret"), 400, "parse-error", None),
        (ZeroDivisionError("secret"), 500, "error", None),
    ],
)
def test_what_goes_wrong_is_a_problem_without_secrets(
    ann: ApiClient,
    failing: Callable[[Exception], None],
    error: Exception,
    status: int,
    code: str,
    retry_after: str | None,
) -> None:
    failing(error)
    answer = ann.get(f"{ORDERS}/0197a000-0000-7000-8000-000000000001")

    assert_is_problem(answer, status, code)
    assert answer.headers.get("Retry-After") == retry_after
    assert "secret" not in answer.content.decode()


def test_the_domain_says_why_in_its_own_words(ann: ApiClient, failing: Callable[[Exception], None]) -> None:
    failing(Rejected("The order is closed."))
    answer = ann.get(f"{ORDERS}/0197a000-0000-7000-8000-000000000001")
    assert answer.json()["detail"] == "The order is closed."


def test_an_error_outside_every_view_is_a_problem(ann: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("django.contrib.auth.middleware.AuthenticationMiddleware.process_request", resolve)
    answer = ann.get(ORDERS)
    assert_is_problem(answer, 500, "error")
    assert "secret" not in answer.content.decode()


def test_a_problem_names_the_trace_of_its_request_and_the_log_names_it_too(
    ann: ApiClient, failing: Callable[[Exception], None], caplog: pytest.LogCaptureFixture
) -> None:
    failing(ZeroDivisionError())
    with caplog.at_level(logging.ERROR):
        answer = ann.get(
            f"{ORDERS}/0197a000-0000-7000-8000-000000000001",
            headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
        )

    assert answer.json()["trace_id"] == TRACE
    assert TRACE in caplog.text


def test_a_session_writes_only_with_its_csrf_token() -> None:
    browser = ApiClient(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_user("ann"))

    assert browser.get(ORDERS).status_code == 200
    assert_is_problem(browser.post(ORDERS, {}), 403, "permission-denied")


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_kind_of_problem_has_a_page(client: Client, code: str) -> None:
    page = client.get(f"/problems/{code}")
    assert page.status_code == 200
    assert f"<h1>{PROBLEMS[code].title}</h1>" in page.content.decode().replace("&#x27;", "'")
    assert "`" not in page.content.decode()
    assert f'href="/problems/{code}"' in client.get("/problems/").content.decode()


def test_a_kind_of_problem_that_there_is_not_has_no_page(client: Client) -> None:
    assert client.get("/problems/nonsense").status_code == 404
