"""Eight processes write with rollbacks and pauses, two relay, others follow: nothing is missed, doubled or reordered.

``GAP_SAFETY_EVENTS=100000`` says how many events; fewer by default, so that the suite stays quick.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from eventing import store
from eventing.models import Checkpoint, Delivery, LogEntry, OutboxEntry
from eventing.relay import relay_once
from eventing.tests.bank.customers import everything_is_relayed, opens_account, stream_of
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.bank.models import Balance, Entry
from eventing.tests.conftest import Program, database_url
from eventing.verification import Verification

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = int(os.environ.get("GAP_SAFETY_EVENTS", "8000"))
WRITERS = 8


def ended(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=3600)
    assert process.returncode == 0, errors
    return output


@pytest.mark.timeout(3600)
def test_with_live_relays_and_subscriptions_and_a_long_transaction_nothing_is_lost_doubled_or_reordered(
    program: Program, other_session: psycopg.Connection[Any]
) -> None:
    other_session.autocommit = False
    other_session.execute("CREATE TABLE somebody_else (id int)")  # a transaction that writes, and stays open
    with psycopg.connect(database_url("postgres")) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")  # as does another one in another database
        followers = [
            program("eventing.tests.bank", what, *names)
            for what, *names in (
                ["relay"],
                ["relay"],
                ["follow", "eventing.Balances"],
                ["follow", "eventing.Balances"],
                ["follow", "eventing.Entries"],
            )
        ]
        writers = [
            program("eventing.tests.bank", "write", f"writer {number}", str(EVENTS // WRITERS))
            for number in range(WRITERS)
        ]
        written = {
            account: int(version)
            for writer in writers
            for account, _, version in (each.partition("=") for each in ended(writer).split())
        }
        for follower in followers:
            follower.send_signal(signal.SIGTERM)
        for follower in followers:
            ended(follower)
    other_session.rollback()

    total = sum(written.values())
    assert total >= EVENTS
    assert OutboxEntry.objects.count() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), min(position), max(position), count(DISTINCT event_id) FROM eventing_log")
        assert cursor.fetchone() == (total, 1, total, total)
        cursor.execute(
            """SELECT count(*) FROM (
                SELECT version, row_number() OVER (PARTITION BY stream_id ORDER BY position) AS expected
                FROM eventing_log JOIN eventing_event ON id = event_id
            ) log WHERE version <> expected"""
        )
        assert cursor.fetchone() == (0,)
    verification = Verification()
    assert list(verification.steps())[-1] == total
    assert [each for each in verification.findings() if each.count] == []
    assert list(Delivery.objects.values_list("subscription", "state", "error", "position")[:20]) == []
    assert {str(each.account_id): each.payments for each in Balance.objects.all()} == {
        account: count for account, count in written.items() if count
    }
    assert {str(each.account_id): each.version for each in Balance.objects.all()} == {
        account: count for account, count in written.items() if count
    }
    assert Entry.objects.count() == total
    assert set(
        Checkpoint.objects.filter(subscription__in=["eventing.Balances", "eventing.Entries"]).values_list(
            "position", flat=True
        )
    ) == {total}


def test_who_inserts_first_and_commits_last_gets_the_later_position(other_session: psycopg.Connection[Any]) -> None:
    slow, quick = opens_account("Slow"), opens_account("Quick")
    everything_is_relayed()
    other_session.execute("BEGIN")
    other_session.execute(
        """INSERT INTO eventing_event
        SELECT gen_random_uuid(), category, stream_id, 2, 'bank.money_paid_in', 1,
            json_build_object('account_id', stream_id, 'amount', 7), '{}', now(), now(), gen_random_uuid(), NULL, '', ''
        FROM eventing_event WHERE stream_id = %s""",
        [str(slow)],
    )
    other_session.execute(
        "INSERT INTO eventing_outbox (event_id, type) SELECT id, type FROM eventing_event WHERE version = 2"
    )
    store.append(stream_of(quick), [MoneyPaidIn(account_id=quick, amount=1)], expected=1)
    assert everything_is_relayed() == 1
    other_session.execute("COMMIT")
    assert everything_is_relayed() == 1
    (late,) = [each.position for each in store.read(stream_of(slow), start=2)]
    (early,) = [each.position for each in store.read(stream_of(quick), start=2)]
    assert (early, late) == (3, 4)


def test_what_is_rolled_back_leaves_no_hole() -> None:
    account = opens_account()
    with transaction.atomic():
        store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 10, expected=1)
        transaction.set_rollback(True)
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 3, expected=1)
    everything_is_relayed()
    assert list(LogEntry.objects.order_by("position").values_list("position", flat=True)) == [1, 2, 3, 4]


def test_a_pass_moves_no_more_than_its_limit() -> None:
    account = opens_account()
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 9, expected=1)
    moved = [relay_once(limit=4) for _ in range(4)]
    assert [each.events for each in moved if each] == [4, 4, 2, 0]
    records = list(store.read(stream_of(account)))
    assert [each.position for each in records] == [each.version for each in records]
