"""Real Celery workers on a real broker."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery
from django.conf import settings
from django.contrib.auth.models import User
from django.db import close_old_connections, connection

from eventing import nudges, replaying, store
from eventing.context import acting
from eventing.models import Checkpoint, Replay, Snapshot
from eventing.records import Record
from eventing.replay import projection_named
from eventing.testing import settle
from eventing.tests.bank.customers import opens_account, stream_of
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.bank.models import Balance
from eventing.tests.bank.sagas import BONUS
from eventing.tests.conftest import Program
from tests.waiting import eventually

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def app(broker: str) -> Iterator[Celery]:
    """Sends tasks to the broker of this test."""
    app = Celery("waybill", set_as_current=False)
    app.config_from_object(settings, namespace="CELERY")
    app.conf.update(broker_url=broker)
    yield app
    app.close()


WORKER = (
    "celery", "--app=config", "--quiet", "worker", "--concurrency=1", "--queues=eventing", "--without-gossip",
    "--without-mingle", "--without-heartbeat",
)  # fmt: skip


@pytest.fixture
def worker(program: Program) -> subprocess.Popen[str]:
    return program(*WORKER)


def paid_in(account: UUID, amount: int) -> list[Record]:
    """The payments of an amount, whatever bonus comes in between."""
    payment = MoneyPaidIn(account_id=account, amount=amount)
    return [each for each in store.read(stream_of(account)) if each.event == payment]


def test_after_its_session_was_ended_a_worker_fails_none_of_the_tasks_that_follow(
    app: Celery, worker: subprocess.Popen[str], other_session: psycopg.Connection[Any]
) -> None:
    account = opens_account()

    def is_paid_in(times: int) -> bool:
        expected = len(paid_in(account, 1)) + times
        for _ in range(times):
            app.send_task("bank.pay_in", [str(account), 1])
        return eventually(lambda: len(paid_in(account, 1)) == expected, seconds=60)

    assert is_paid_in(1)
    for _ in range(2):
        ended = other_session.execute(
            """SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> ALL(%s)""",
            [[other_session.info.backend_pid, connection.connection.info.backend_pid]],
        ).fetchone()
        assert ended is not None
        assert ended[0] >= 1
        assert is_paid_in(50)


def test_the_first_statement_of_a_task_notices_that_the_session_was_ended(
    other_session: psycopg.Connection[Any],
) -> None:
    account = opens_account()
    other_session.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
    close_old_connections()  # as before each task
    assert store.version(stream_of(account)) == 1


def test_a_nudge_is_all_it_takes_to_bring_an_event_to_everybody(app: Celery, worker: subprocess.Popen[str]) -> None:
    account = opens_account()
    app.send_task(nudges.RELAY)
    assert eventually(lambda: Balance.objects.filter(pk=account, amount=BONUS).exists())
    assert eventually(lambda: set(Checkpoint.objects.values_list("attempts", flat=True)) == {0})


def test_a_nudge_is_all_it_takes_to_take_a_snapshot(app: Celery, worker: subprocess.Popen[str]) -> None:
    account = opens_account()
    app.send_task(nudges.SNAPSHOT, stream_of(account))
    assert eventually(lambda: Snapshot.objects.filter(stream_id=str(account), version=1).exists())


def test_a_cause_travels_with_a_message_to_the_task_and_no_further(app: Celery, worker: subprocess.Popen[str]) -> None:
    account = opens_account()
    with acting(actor="ada", traceparent=TRACE) as cause:
        app.send_task("bank.pay_in", [str(account), 1])
    app.send_task("bank.pay_in", [str(account), 1])
    assert eventually(lambda: len(paid_in(account, 1)) == 2)
    carried, begun = paid_in(account, 1)
    assert (carried.actor, carried.traceparent, carried.correlation_id) == ("ada", TRACE, cause.correlation_id)
    assert (begun.actor, begun.traceparent) == ("", "")
    assert begun.correlation_id != cause.correlation_id


def test_workers_build_and_compare_a_read_model_and_exchange_it_when_told_to(app: Celery, program: Program) -> None:
    accounts = [opens_account() for _ in range(3)]
    settle()
    Balance.objects.update(amount=0)
    balances, clerk = projection_named("eventing.Balances"), User.objects.create_user("clerk")
    replaying.start(balances, who=clerk)
    first = program(*WORKER)
    app.send_task("eventing.sweep", queue="eventing")
    assert eventually(lambda: Replay.objects.get().runner is not None or is_compared(), seconds=60)
    first.kill()
    first.wait()
    program(*WORKER)

    def eventually_swept(condition: Callable[[], bool]) -> bool:
        """Beat isn't there to sweep, so this does."""

        def swept() -> bool:
            app.send_task("eventing.sweep", queue="eventing")
            return condition()

        return eventually(swept, seconds=60)

    assert eventually_swept(is_compared)
    assert set(Balance.objects.values_list("amount", flat=True)) == {0}
    replaying.exchange(balances, who=clerk)
    assert eventually_swept(lambda: Replay.objects.get().state == "done")
    assert Balance.objects.filter(amount=BONUS).count() == len(accounts)


def is_compared() -> bool:
    return Replay.objects.get().state == "compared"
