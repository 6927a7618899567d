from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from eventing.advance import advance, retry_due
from eventing.projections import ProjectionSubscription
from eventing.replay import projection_named
from eventing.subscriptions import Subscription
from eventing.tests.bank import effects, projections
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in

Program = Callable[..., "subprocess.Popen[str]"]
InThreads = Callable[..., list[Any]]


@pytest.fixture
def in_threads() -> InThreads:
    """Run functions at once, each in a thread with a connection of its own. Returns what they returned."""

    def alone(function: Callable[[], Any]) -> Any:
        try:
            return function()
        finally:
            connection.close()

    def run(*functions: Callable[[], Any]) -> list[Any]:
        with ThreadPoolExecutor(len(functions)) as pool:
            return [future.result(timeout=120) for future in [pool.submit(alone, each) for each in functions]]

    return run


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent to the server from now on."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def noting(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(str(query))
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noting)
    return sent


@pytest.fixture
def other_session(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the test's database that Django knows nothing of."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        yield other


@pytest.fixture
def broker(worker_id: str) -> Iterator[str]:
    """The address of an empty Redis database that no other test uses."""
    parts = urlsplit(settings.REDIS_URL)
    number = 8 + int(worker_id.removeprefix("gw") if worker_id.startswith("gw") else 7)
    address = parts._replace(path=f"/{number}").geturl()
    with Redis.from_url(address) as redis:
        redis.flushdb()
        yield address
        redis.flushdb()


def hear_interrupts() -> None:
    """A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def program(transactional_db: None, broker: str) -> Iterator[Program]:
    """Start ``python -m …`` with the test's database and broker; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={
                **os.environ,
                "DATABASE_URL": database_url(),
                "REDIS_URL": broker,
                "CELERY_BROKER_URL": broker,
                "SECRET_KEY": settings.SECRET_KEY,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_interrupts,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def bank_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test changes of the bank is put back."""
    monkeypatch.setattr(projections, "poisoned", projections.poisoned)
    monkeypatch.setattr(effects, "post", effects.post)


@pytest.fixture
def balances() -> ProjectionSubscription:
    return projection_named("eventing.Balances")


@pytest.fixture
def poison(balances: Subscription) -> Callable[[int], list[UUID]]:
    """Lets so many accounts be paid what can't be digested, with a payment behind it, until all of these are dead."""

    def make(accounts: int) -> list[UUID]:
        opened = [opens_account() for _ in range(accounts)]
        for account in opened:
            pays_in(account, projections.POISON, 2)
        everything_is_relayed()
        settled(balances)
        return opened

    return make


@pytest.fixture
def antidote(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Mends the cause."""
    return lambda: monkeypatch.setattr(projections, "poisoned", False)


def settled(subscription: Subscription) -> None:
    """All that can be done by itself is done."""
    while advance(subscription, 0) or retry_due(subscription, 0):
        pass


def database_url(database: str = "") -> str:
    """The address of the test's database, or of another one of its server."""
    known = connection.settings_dict
    user, password = quote(str(known["USER"])), quote(str(known["PASSWORD"]))
    return f"postgresql://{user}:{password}@{known['HOST']}:{known['PORT'] or 5432}/{database or known['NAME']}"
