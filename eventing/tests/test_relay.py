from __future__ import annotations

import signal
import subprocess
from functools import partial
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection

from eventing import relay, statements, store
from eventing.models import LogEntry, OutboxEntry, RelayFailure
from eventing.relay import RELAY_LOCK, relay_all, relay_once
from eventing.status import status
from eventing.tests.bank.customers import opens_account, pays_in, stream_of
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.conftest import Program
from eventing.verification import Verification
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def log() -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT position, version FROM eventing_log JOIN eventing_event ON id = event_id ORDER BY 1")
        rows: list[tuple[int, int]] = cursor.fetchall()
    return rows


def is_sound() -> bool:
    verification = Verification()
    done = list(verification.steps())
    return bool(done) and not verification.unchained and not any(each.count for each in verification.findings())


def _has_moved(events: int) -> bool:
    return LogEntry.objects.count() > events


def test_an_event_has_no_position_until_it_is_relayed() -> None:
    opens_account()
    assert (LogEntry.objects.count(), OutboxEntry.objects.count()) == (0, 1)
    assert sum(relay_all()) == 1
    assert (LogEntry.objects.count(), OutboxEntry.objects.count()) == (1, 0)


def test_positions_are_dense_and_follow_the_order_of_recording() -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    assert sum(relay_all()) == 3
    pays_in(account, 3)
    assert sum(relay_all()) == 1
    assert log() == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_second_relay_leaves_at_once(other_session: psycopg.Connection[Any]) -> None:
    opens_account()
    with other_session.transaction():
        other_session.execute("SELECT pg_advisory_xact_lock(%s)", [RELAY_LOCK])
        assert relay_once() is None
        assert list(relay_all()) == []
        assert OutboxEntry.objects.count() == 1
    assert sum(relay_all()) == 1


@pytest.mark.parametrize("at", ["pg_try_advisory", "WITH moved", "COMMIT"])
def test_a_relay_whose_session_ends_at_any_statement_loses_and_doubles_nothing(
    at: str, other_session: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    connection.ensure_connection()
    session = connection.connection.info.backend_pid
    run, commit = statements.run, connection._commit  # type: ignore[attr-defined]

    def end_session() -> None:
        other_session.execute("SELECT pg_terminate_backend(%s, 5000)", [session])

    def run_in_an_ended_session(statement: Any, parameters: Any) -> Any:
        if at in statement:
            end_session()
        return run(statement, parameters)

    def commit_in_an_ended_session() -> None:
        end_session()
        commit()

    with monkeypatch.context() as patched:
        patched.setattr(relay, "run", run_in_an_ended_session)
        if at == "COMMIT":
            patched.setattr(connection, "_commit", commit_in_an_ended_session)
        with pytest.raises(OperationalError):
            relay_once()
    assert sum(relay_all()) == 3
    assert log() == [(1, 1), (2, 2), (3, 3)]
    assert is_sound()


def test_relays_that_are_killed_again_and_again_lose_and_double_nothing(program: Program) -> None:
    account = opens_account()
    writer = program("eventing.tests.bank", "pay_until_killed", str(account))
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    for lives in range(1, 4):
        relaying = program("eventing.tests.bank", "relay")
        assert eventually(partial(_has_moved, 20 * lives))
        relaying.send_signal(signal.SIGKILL)
        relaying.wait()
    writer.kill()
    writer.wait()
    assert eventually(lambda: sum(relay_all()) == 0 and not OutboxEntry.objects.exists())
    assert log() == [(number, number) for number in range(1, store.version(stream_of(account)) + 1)]
    assert is_sound()


def test_a_failure_is_counted_and_visible_until_the_next_success(monkeypatch: pytest.MonkeyPatch) -> None:
    opens_account()
    with monkeypatch.context() as patched:
        patched.setattr(relay, "MOVE", "SELECT 1/0, %(limit)s")
        for _ in range(2):
            with pytest.raises(DatabaseError):
                relay_once()
    failing = status().outbox
    assert (failing.backlog, failing.retries, failing.last_error) == (1, 2, "division by zero")
    assert str(RelayFailure.objects.get()) == "2 times: division by zero"
    relay_once()
    succeeded = status().outbox
    assert (succeeded.backlog, succeeded.retries, succeeded.last_error) == (0, 0, "")


def test_the_backlog_and_the_age_of_the_oldest_event_are_visible() -> None:
    assert (status().outbox.backlog, status().outbox.oldest_seconds) == (0, 0.0)
    account = opens_account()
    pays_in(account, 1)
    OutboxEntry.objects.filter(id=OutboxEntry.objects.earliest("id").pk).update(created_at="2020-01-01T00:00Z")
    assert status().outbox.backlog == 2
    assert status().outbox.oldest_seconds > 1_000_000


def test_the_command_relays_what_there_is_and_ends() -> None:
    account = opens_account()
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 9, expected=1)
    output = StringIO()
    call_command("relay_outbox", "--once", stdout=output)
    assert output.getvalue() == "10 events moved to the log.\n"
    assert not OutboxEntry.objects.exists()


def test_the_command_relays_until_it_is_interrupted(program: Program) -> None:
    opens_account()
    relaying = program("django", "relay_outbox")
    assert eventually(lambda: LogEntry.objects.count() == 1)
    opens_account()
    assert eventually(lambda: LogEntry.objects.count() == 2)
    relaying.send_signal(signal.SIGINT)
    output, _ = relaying.communicate(timeout=60)
    assert (relaying.returncode, output) == (0, "2 events moved to the log.\n")


def test_the_command_refuses_what_it_doesnt_know(program: Program) -> None:
    process: subprocess.Popen[str] = program("django", "relay_outbox", "--twice")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert "--twice" in errors
