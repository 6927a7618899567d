"""What those who watch the processes are told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from config import health
from config.celery import app
from config.health import Check
from eventing.models import Checkpoint, OutboxEntry, Replay
from eventing.replay import projection_named
from eventing.testing import settle
from orders.tests.test_api import ORDER, as_user
from tests.articles import on_sale

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def silence() -> Iterator[int]:
    """The port of a server that takes every connection and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for each in taken:
            each.close()


@pytest.fixture(autouse=True)
def nobody_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hung in another test hasn't answered yet."""
    monkeypatch.setattr(health, "_database", Check("database", lambda: health._ask_database()))
    monkeypatch.setattr(health, "_broker", Check("broker", lambda: health._ask_broker()))


def readiness(client: Client) -> tuple[int, Any]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()


def test_a_process_is_alive_without_asking_anybody(
    client: Client, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr(app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    with django_assert_num_queries(0):
        assert client.get("/livez").json() == {"status": "alive"}


def test_a_process_is_ready_when_all_it_needs_answers(client: Client) -> None:
    assert readiness(client) == (
        200,
        {
            "status": "ready",
            "checks": {"database": "ok", "broker": "ok", "migrations": "ok", "lag": "ok"},
            "migrations_missing": [],
            "relay_seconds": 0.0,
            "worst_lag": None,
            "replays_needed": [],
            "replays_open": [],
        },
    )


def test_who_is_furthest_behind_is_told_and_takes_nothing_out_of_service(client: Client, settings: Settings) -> None:
    on_sale({"85123A": 255, "71053": 339})
    assert as_user("ann").post("/api/v1/orders", ORDER).status_code == 201
    OutboxEntry.objects.update(created_at="2026-01-01T00:00:00Z")
    _, waiting = readiness(client)
    assert waiting["relay_seconds"] > 3600

    settle()
    late = Checkpoint.objects.filter(subscription="orders.OrderSummaries").earliest("partition")
    Checkpoint.objects.filter(pk=late.pk).update(position=0)
    code, answer = readiness(client)

    assert (code, answer["checks"]["lag"], answer["relay_seconds"]) == (200, "ok", 0.0)
    assert answer["worst_lag"]["subscription"] == "orders.OrderSummaries"
    assert answer["worst_lag"]["positions"] == late.position
    assert answer["worst_lag"]["seconds"] > 0

    settings.READY_LAG_SECONDS = 0.000001
    code, answer = readiness(client)
    assert (code, answer["checks"]["lag"]) == (503, "behind")


def test_replays_that_are_needed_and_under_way_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection_named("orders.OrderSummaries"), "version", 2)
    Replay.objects.create(
        projection="payments.PaymentSummaries", version=1, in_place=False, verify_only=False, with_failures=False
    )
    code, answer = readiness(client)

    assert (code, answer["replays_needed"]) == (200, ["orders.OrderSummaries"])
    assert answer["replays_open"] == [
        {"projection": "payments.PaymentSummaries", "state": "building", "position": 0, "target": 0}
    ]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_come_by_address_and_plain_http(client: Client, settings: Settings, path: str) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["shop.example"], True
    assert client.get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/api/v1/orders", headers={"Host": "10.1.2.3:8000"}, secure=True).status_code == 400


def test_a_process_is_not_ready_before_its_migrations(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrations", lambda: [("orders", "9999_the_next")])
    code, answer = readiness(client)

    assert (code, answer["checks"]["migrations"]) == (503, "missing")
    assert (answer["migrations_missing"], answer["relay_seconds"]) == (["orders.9999_the_next"], None)


def test_a_process_is_not_ready_without_its_broker(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.conf, "broker_write_url", "redis://:password@127.0.0.1:1/0")
    code, answer = readiness(client)
    assert (code, answer["status"]) == (503, "not ready")
    assert (answer["checks"]["broker"], answer["checks"]["database"]) == ("no answer", "ok")
    assert "password" not in str(answer)


def test_a_process_is_not_ready_without_its_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError("secret")

    monkeypatch.setattr(health, "_ask_database", fail)
    code, answer = readiness(client)
    assert (code, answer["checks"]["database"], answer["checks"]["lag"]) == (503, "no answer", "unknown")
    assert "secret" not in str(answer)


def test_servers_that_hang_are_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch, silence: int) -> None:
    hanging = {"host": "127.0.0.1", "port": silence, "dbname": "any", "connect_timeout": 2}
    monkeypatch.setattr(DatabaseWrapper, "get_connection_params", lambda self: hanging)
    monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{silence}/0")
    for _ in range(3):
        began = time.monotonic()
        code, answer = readiness(client)
        took = time.monotonic() - began
        assert (code, answer["checks"]["database"], answer["checks"]["broker"]) == (503, "no answer", "no answer")
        assert took < 1.5
    assert sum(thread.name.startswith("health-") for thread in threading.enumerate()) <= 2


def test_a_server_that_never_answered_is_asked_anew_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = threading.Event()
    answers = iter([for_ever.wait, lambda: True])
    check = Check("a server", lambda: next(answers)())
    asked = check.begin()
    assert check.begin() is asked

    monkeypatch.setattr(health, "GIVEN_UP", 0.0)
    assert check.begin().result(timeout=30) is True
    for_ever.set()
