"""For those who watch the processes: is it alive, can it do its work, and how far behind is it?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from threading import Lock, Thread
from typing import Generic, TypeVar

import msgspec
from django.conf import settings
from django.db import ProgrammingError, connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.deprecation import MiddlewareMixin

from config.celery import app
from eventing import status
from eventing.status import Summary

T = TypeVar("T")

TIMEOUT = 1  # second in which they have to answer
GIVEN_UP = 30.0  # seconds after which an answer isn't waited for: the connection may be dead, unnoticed

APPLIED = "SELECT app, name FROM django_migrations"

logger = logging.getLogger(__name__)


class Check(Generic[T]):
    """A question to a server that may hang. It's asked in a thread of its own, and not again before it has answered or
    is given up, so that nobody waits longer than a second, and a server that hangs costs few threads."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._name, self._ask = name, ask
        self._asking = Lock()
        self._asked_at = 0.0
        self._answer: Future[T] | None = None

    def begin(self) -> Future[T]:
        """The answer to come."""
        with self._asking:
            now = time.monotonic()
            if self._answer is None or self._answer.done() or now - self._asked_at > GIVEN_UP:
                self._answer, self._asked_at = Future(), now
                # A daemon, for the process has to be able to end while the server hangs.
                Thread(target=self._fill, args=(self._answer,), name=f"health-{self._name}", daemon=True).start()
            return self._answer

    def _fill(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._ask())
        except Exception as error:
            answer.set_exception(error)

    def end(self, answer: Future[T], *, by: float) -> T | None:
        """The answer; None when there's none in time, or an error instead."""
        try:
            return answer.result(max(0.0, by - time.monotonic()))
        except Exception as error:
            logger.error("Not ready: %s: %r", self._name, error)  # a trace a second helps nobody
            return None


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """What the database tells; without its migrations, nothing but which are missing."""

    migrations_missing: list[str]
    summary: Summary | None


def livez(request: HttpRequest) -> JsonResponse:
    """The process answers, whatever else may be down."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database and broker answer and all migrations are applied, otherwise 503 that says what is wrong.
    How far the relay and the subscriptions are behind is told, and makes it 503 only beyond READY_LAG_SECONDS."""
    by = time.monotonic() + TIMEOUT
    asked_database, asked_broker = _database.begin(), _broker.begin()
    database, broker = _database.end(asked_database, by=by), _broker.end(asked_broker, by=by)
    summary = database.summary if database else None
    checks = {
        "database": "no answer" if database is None else "ok",
        "broker": "no answer" if broker is None else "ok",
        "migrations": "unknown" if database is None else "missing" if database.migrations_missing else "ok",
        "lag": "unknown" if summary is None else "behind" if _is_behind(summary) else "ok",
    }
    ready = all(answer == "ok" for answer in checks.values())
    return JsonResponse(
        {
            "status": "ready" if ready else "not ready",
            "checks": checks,
            "migrations_missing": database.migrations_missing if database else [],
            **msgspec.to_builtins(summary or Summary()),
        },
        status=200 if ready else 503,
        headers={"Cache-Control": "no-store"},
    )


class Probes(MiddlewareMixin):
    """Answers those who watch the processes, whatever host they take them for."""

    get_response: Callable[[HttpRequest], HttpResponseBase]

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        view = {"/livez": livez, "/readyz": readyz}.get(request.path_info)
        return view(request) if view else None


def _is_behind(summary: Summary) -> bool:
    allowed: float = settings.READY_LAG_SECONDS
    seconds = max(summary.relay_seconds or 0.0, summary.worst_lag.seconds if summary.worst_lag else 0.0)
    return bool(allowed) and seconds > allowed


def _ask_database() -> Database:
    try:
        missing = _missing_migrations()
        return Database(migrations_missing=missing, summary=None if missing else status.summary())
    finally:
        connection.close()


def _missing_migrations() -> list[str]:
    """Migrations of the program that the database hasn't got."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(APPLIED)
            applied = set(cursor.fetchall())
        except ProgrammingError:  # nothing has ever been migrated
            applied = set()
    return [f"{app}.{name}" for app, name in _migrations() if (app, name) not in applied]


@cache
def _migrations() -> list[tuple[str, str]]:
    return sorted(MigrationLoader(None).graph.nodes)


def _ask_broker() -> bool:
    options = {**app.conf.broker_transport_options, "socket_timeout": TIMEOUT}
    options |= {"socket_connect_timeout": TIMEOUT, "max_retries": 0}
    with app.connection_for_write(connect_timeout=TIMEOUT, transport_options=options) as broker:
        broker.ensure_connection(max_retries=1, timeout=TIMEOUT)
        broker.channel().close()  # type: ignore[attr-defined] # the stubs know another channel
    return True


_database: Check[Database] = Check("database", lambda: _ask_database())
_broker: Check[bool] = Check("broker", lambda: _ask_broker())
