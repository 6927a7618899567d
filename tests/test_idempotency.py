"""A request that is sent again is answered again, and nothing is done twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from eventing import answers, idempotency
from eventing.forgetting import forget
from eventing.models import OutboxEntry, SavedAnswer, StoredEvent
from eventing.statements import run
from eventing.testing import settle
from orders.models import Article
from tests.articles import on_sale
from tests.builders import HEART
from tests.clients import ApiClient, api_of

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = "/api/v1/orders"
ORDER = {"lines": [{"sku": HEART, "quantity": 2}]}
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def ann() -> ApiClient:
    on_sale({HEART: 255})
    return api_of("ann")


def place(client: ApiClient, key: str = KEY, *, path: str = ORDERS, **changes: Any) -> Any:
    return client.post(path, {**ORDER, **changes}, headers={"Idempotency-Key": key})


def test_two_hundred_identical_requests_from_twenty_threads_make_one_order(ann: ApiClient) -> None:
    start = Barrier(20)

    def ask(_: int) -> list[tuple[int, bytes, str | None]]:
        client = api_of("ann")
        start.wait()
        found = []
        for _ in range(10):
            answer = place(client)
            found.append((answer.status_code, answer.content, answer.headers.get("Idempotent-Replayed")))
        connection.close()
        return found

    with ThreadPoolExecutor(20) as threads:
        answers_given = [each for found in threads.map(ask, range(20)) for each in found]

    assert len(answers_given) == 200
    assert StoredEvent.objects.filter(type="orders.order_placed").count() == 1
    placed = {body for status, body, _ in answers_given if status == 201}
    assert len(placed) == 1
    kinds = Counter((status, replayed) for status, _, replayed in answers_given)
    assert kinds[201, None] == 1
    assert kinds.keys() <= {(201, None), (201, "true"), (409, None)}
    in_flight = {json.loads(body)["code"] for status, body, _ in answers_given if status == 409}
    assert in_flight <= {"still-in-flight"}


def test_the_key_the_events_the_outbox_and_the_answer_are_there_together_or_not_at_all(
    ann: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # as if the process were killed before the commit

    with monkeypatch.context() as patched:
        patched.setattr(answers, "keep", die)
        with pytest.raises(KeyboardInterrupt):
            place(ann)
    assert not StoredEvent.objects.exists()
    assert not OutboxEntry.objects.exists()
    assert not SavedAnswer.objects.exists()

    assert place(ann).status_code == 201
    assert (StoredEvent.objects.count(), SavedAnswer.objects.count()) == (1, 1)


def test_sent_again_it_is_answered_with_the_same_bytes_whatever_happened_since(ann: ApiClient) -> None:
    first = place(ann)
    ann.post(f"{first['Location']}/cancel", {"reason": "Changed my mind"})
    Article.objects.update(price_minor=999)
    again = place(ann)

    assert (again.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    for header in ("ETag", "Location", "Consistency-Token", "Content-Type"):
        assert again[header] == first[header]


def test_a_key_with_or_without_quotes_is_the_same(ann: ApiClient) -> None:
    assert place(ann, KEY).content == place(ann, f'"{KEY}"').content


def test_what_makes_something_takes_a_key(ann: ApiClient) -> None:
    answer = place(ann, "")
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-missing")
    assert not StoredEvent.objects.exists()


def test_whatever_makes_something_is_described_to_take_a_key(ann: ApiClient) -> None:
    described = ann.get("/api/v1/schema", headers={"Accept": "application/json"}).json()
    operations = {each["operationId"]: each for path in described["paths"].values() for each in path.values()}
    takes_a_key = {
        name
        for name, operation in operations.items()
        for header in operation.get("parameters", ())
        if header["name"] == "Idempotency-Key" and header.get("required")
    }
    makes = {name for name, operation in operations.items() if "201" in operation["responses"]}
    assert takes_a_key == makes | {"place_orders", "receive_stock", "adjust_stock", "rotate_webhook_secret"}


@pytest.mark.parametrize(
    "path",
    [
        ORDERS,
        f"{ORDERS}/bulk",
        f"{ORDERS}/01a20000-0000-7000-8000-00000000a001/returns",
        "/api/v1/inventory/items",
        f"/api/v1/inventory/items/{HEART}/receive",
        f"/api/v1/inventory/items/{HEART}/adjust",
        "/api/v1/payments/01a20000-0000-7000-8000-00000000a001/refunds",
        "/api/v1/replays",
        "/api/v1/letter-jobs",
        "/api/v1/webhook-endpoints",
        "/api/v1/webhook-endpoints/01a20000-0000-7000-8000-00000000a001/rotate-secret",
    ],
)
def test_without_a_key_nothing_is_made(path: str) -> None:
    root = ApiClient()
    root.force_authenticate(User.objects.create_superuser("root"))
    answer = root.post(path, {}, headers={"Idempotency-Key": ""})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency-key-missing")


@pytest.mark.parametrize("key", ["two words", "x" * 256, "clé", "tab\tbed", '""', "command 1 0"])
def test_a_key_is_visible_ascii(ann: ApiClient, key: str) -> None:
    answer = place(ann, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert [error["header"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert not StoredEvent.objects.exists()


def test_a_key_that_came_with_another_request_is_refused(ann: ApiClient) -> None:
    order = place(ann)
    others = [
        place(ann, reference="another body"),
        ann.post(f"{order['Location']}/cancel", {"reason": "x"}, headers={"Idempotency-Key": KEY}),
    ]
    for other in others:
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert StoredEvent.objects.count() == 1


def test_a_body_that_means_the_same_and_is_written_otherwise_is_another_request(ann: ApiClient) -> None:
    def sent(text: str) -> Any:
        return ann.post(ORDERS, text, content_type="application/json", headers={"Idempotency-Key": KEY})

    assert sent(json.dumps(ORDER)).status_code == 201
    assert sent(json.dumps(ORDER, indent=1)).status_code == 422


def test_keys_are_each_accounts_own(ann: ApiClient) -> None:
    assert place(ann).json()["order_id"] != place(api_of("ben")).json()["order_id"]


def test_while_the_first_is_being_answered_the_same_request_is_told_to_come_again(ann: ApiClient) -> None:
    with another_at(KEY, User.objects.get(username="ann").pk):
        answer = place(ann)
    assert (answer.status_code, answer.json()["code"]) == (409, "still-in-flight")
    assert answer["Retry-After"] == "1"
    assert place(ann).status_code == 201


def test_what_a_rule_forbade_is_answered_again(ann: ApiClient) -> None:
    lines = [{"sku": HEART, "quantity": 2, "unit_price": {"amount": 1, "currency": "GBP"}}]
    first = place(ann, lines=lines)
    Article.objects.update(price_minor=1)
    again = place(ann, lines=lines)

    assert (first.status_code, again.status_code) == (409, 409)
    assert again.content == first.content
    assert again["Idempotent-Replayed"] == "true"
    assert again["Content-Type"] == "application/problem+json"


def test_nothing_is_kept_of_a_request_that_could_not_be_read_or_failed(
    ann: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place(ann, lines=[]).status_code == 400
    assert place(ann, customer_id=str(uuid4())).status_code == 403
    with monkeypatch.context() as patched:
        patched.setattr("orders.api.as_told_by", lambda records: 1 / 0)
        failed = place(ann)
    assert (failed.status_code, failed.json()["code"]) == (500, "error")
    assert not StoredEvent.objects.exists()  # the events went with the failed answer
    assert not SavedAnswer.objects.exists()
    assert place(ann).status_code == 201


def test_an_act_needs_no_key_and_may_have_one(ann: ApiClient) -> None:
    order = place(ann)["Location"]
    cancel = {"reason": "Changed my mind"}
    assert ann.post(f"{order}/cancel", cancel, headers={"Idempotency-Key": ""}).status_code == 200
    assert ann.post(f"{order}/cancel", cancel, headers={"Idempotency-Key": "cancel"}).status_code == 200
    assert "Idempotent-Replayed" in ann.post(f"{order}/cancel", cancel, headers={"Idempotency-Key": "cancel"}).headers


def test_answers_are_kept_for_a_day_and_no_longer(ann: ApiClient) -> None:
    first = place(ann)
    saved = SavedAnswer.objects.get()
    assert timedelta(hours=23) < saved.expires_at - timezone.now() <= timedelta(hours=24)

    SavedAnswer.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert place(ann).json()["order_id"] != first.json()["order_id"]
    SavedAnswer.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answers.purge()
    assert not SavedAnswer.objects.exists()


def test_what_was_answered_about_somebody_is_forgotten_with_them(ann: ApiClient) -> None:
    placed: dict[str, Any] = {"order_id": str(uuid4()), "contact": {"name": "Ada Quill"}}
    order = place(ann, **placed)
    other = place(ann, "another")
    # What is asked for again records nothing, and tells of the buyer all the same.
    assert place(ann, "placed-again", **placed).json()["contact"]["name"] == "Ada Quill"
    for key in ("cancel", "cancel-again"):
        told = ann.post(f"{order['Location']}/cancel", {"reason": "x"}, headers={"Idempotency-Key": key})
        assert told.json()["contact"]["name"] == "Ada Quill"
    settle()
    kept = SavedAnswer.objects.get(key=KEY)
    assert b"Quill" in (answers.body_of(kept) or b"")
    assert b"Quill" not in bytes(kept.body or b"")

    forget(UUID(order.json()["customer_id"]), reason="She asked", by="test")

    again = place(ann, **placed)
    assert (again.status_code, again.json()["code"]) == (410, "answer-forgotten")
    assert list(SavedAnswer.objects.exclude(body=None).values_list("key", flat=True)) == ["another"]
    assert other.status_code == 201


class another_at:  # noqa: N801 - it reads as a phrase
    """Another process that is answering a request with this key."""

    def __init__(self, key: str, account: int) -> None:
        self._parameters = {"account": str(account), "key": key}
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> None:
        self._work = self._hold()
        self._thread.submit(next, self._work).result()

    def __exit__(self, *_: object) -> None:
        self._thread.submit(next, self._work, None).result()
        self._thread.shutdown()

    def _hold(self) -> Iterator[None]:
        with transaction.atomic():
            assert run(idempotency.LOCK, self._parameters)[0][0]
            yield
        connection.close()
