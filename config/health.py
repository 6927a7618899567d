"""For those who watch the processes: is it alive, and can it do its work?"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest, JsonResponse

from config.celery import app
from eventing.replay import needing_replay

BROKER_TIMEOUT = 1  # second

logger = logging.getLogger(__name__)


def livez(request: HttpRequest) -> JsonResponse:
    """The process answers, whatever else may be down."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database and the broker answer, otherwise 503 that says which doesn't. A read model that needs a
    replay is named, and goes on serving."""
    outdated: list[str] = []
    checks = {
        "database": _answers(lambda: outdated.extend(_ask_database())),
        "broker": _answers(_ask_broker),
    }
    ready = all(checks.values())
    return JsonResponse(
        {
            "status": "ready" if ready else "not ready",
            "checks": {name: "ok" if answers else "no answer" for name, answers in checks.items()},
            "replays_needed": outdated,
        },
        status=200 if ready else 503,
        headers={"Cache-Control": "no-store"},
    )


def _ask_database() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return needing_replay()


def _ask_broker() -> None:
    options = {**app.conf.broker_transport_options, "socket_timeout": BROKER_TIMEOUT}
    options |= {"socket_connect_timeout": BROKER_TIMEOUT, "max_retries": 0}
    with app.connection_for_write(connect_timeout=BROKER_TIMEOUT, transport_options=options) as broker:
        broker.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT)
        broker.channel().close()  # type: ignore[attr-defined] # the stubs know another channel


def _answers(ask: Callable[[], None]) -> bool:
    try:
        ask()
    except Exception:
        logger.exception("Not ready.")
        return False
    return True
