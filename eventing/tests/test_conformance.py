"""Waybill's store passes the conformance suite, and stores that are known to lose or hold up events don't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction

from eventing import advance, store
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named
from eventing.testing import GapSafety
from eventing.testing.gap_safety import Disordered, Entry, Missed, Premature, Stalled, Unsafe, Unsettled
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.conftest import database_url

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = UUID(int=0)


@contextmanager
def open_transaction(*, elsewhere: bool) -> Iterator[None]:
    """Somebody who has written something else and doesn't commit."""
    with psycopg.connect(database_url("postgres" if elsewhere else "")) as bystander:
        bystander.execute("CREATE TABLE something_else (id int)")
        yield
        bystander.rollback()


class WaybillWriter:
    """A session of Django's, in the thread that it's used in."""

    def __init__(self) -> None:
        self._transaction = ExitStack()

    def begin(self) -> None:
        self._transaction.enter_context(transaction.atomic())

    def append(self, stream: str, value: int) -> None:
        there = Stream("account", stream)
        store.append(there, [MoneyPaidIn(account_id=NOBODY, amount=value)], expected=store.version(there))

    def commit(self) -> None:
        self._transaction.close()

    def rollback(self) -> None:
        transaction.set_rollback(True)
        self._transaction.close()


class WaybillFollower:
    """Reads as a projection does."""

    def __init__(self, batch: int) -> None:
        self._subscription, self._batch, self._position = subscription_named("eventing.Entries"), batch, 0

    def read(self) -> list[Entry]:
        for _ in relay_all():
            pass
        records = advance.read(self._subscription, 0, after=self._position, until=2**62, limit=self._batch)
        if records:
            self._position = records[-1].position
        return [
            Entry(record.stream.id, record.event.amount) for record in records if isinstance(record.event, MoneyPaidIn)
        ]


class Waybill:
    """The store that this project is about."""

    @contextmanager
    def writer(self) -> Iterator[WaybillWriter]:
        yield WaybillWriter()
        connection.close()

    @contextmanager
    def follower(self, batch: int) -> Iterator[WaybillFollower]:
        yield WaybillFollower(batch)

    bystander = staticmethod(open_transaction)


class TestWaybill(GapSafety):
    @pytest.fixture
    def store(self, transactional_db: None) -> Waybill:
        return Waybill()


class OneTableWriter:
    """Appends to one table, which has a number for each row."""

    def __init__(self, session: psycopg.Connection[Any], begin: LiteralString, lock: LiteralString) -> None:
        self._session, self._begin, self._lock = session, begin, lock

    def begin(self) -> None:
        self._session.execute(self._begin)

    def append(self, stream: str, value: int) -> None:
        self._session.execute(self._lock)
        self._session.execute("INSERT INTO one_table (stream, value) VALUES (%s, %s)", [stream, value])

    def commit(self) -> None:
        self._session.execute("COMMIT")

    def rollback(self) -> None:
        self._session.execute("ROLLBACK")


class OneTableFollower:
    """Remembers the rows that it was given, and asks for those after the last, or for others."""

    def __init__(self, session: psycopg.Connection[Any], read: LiteralString, batch: int) -> None:
        self._session, self._read, self._batch = session, read, batch
        self._xid, self._ids = "0", [0]

    def read(self) -> list[Entry]:
        cursor = {"xid": self._xid, "id": self._ids[-1], "ids": self._ids, "limit": self._batch}
        rows = self._session.execute(self._read, cursor).fetchall()
        if rows:
            self._xid = rows[-1][0]
        self._ids += [row[1] for row in rows]
        return [Entry(*row[2:]) for row in rows]


class OneTable:
    """A store as it's often written: the table is the log, and a follower keeps a cursor on it."""

    def __init__(self, read: LiteralString, *, begin: LiteralString = "BEGIN", lock: LiteralString = "") -> None:
        self._read, self._begin, self._lock = read, begin, lock

    @contextmanager
    def writer(self) -> Iterator[OneTableWriter]:
        with psycopg.connect(database_url(), autocommit=True) as session:
            yield OneTableWriter(session, self._begin, self._lock)

    @contextmanager
    def follower(self, batch: int) -> Iterator[OneTableFollower]:
        with psycopg.connect(database_url(), autocommit=True) as session:
            yield OneTableFollower(session, self._read, batch)

    bystander = staticmethod(open_transaction)


BY_IDENTITY = "SELECT xid::text, id, stream, value FROM one_table WHERE id > %(id)s ORDER BY id LIMIT %(limit)s"

BY_IDENTITY_BELOW_XMIN = """
SELECT xid::text, id, stream, value FROM one_table
WHERE id > %(id)s AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY id LIMIT %(limit)s
"""

BY_TRANSACTION = """
SELECT xid::text, id, stream, value FROM one_table
WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, id LIMIT %(limit)s
"""

WHATEVER_IS_NEW = """
SELECT xid::text, id, stream, value FROM one_table WHERE id <> ALL (%(ids)s) ORDER BY id LIMIT %(limit)s
"""

BY_WHOLE_TRANSACTION = """
SELECT xid::text, id, stream, value FROM one_table
WHERE xid > %(xid)s::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, id LIMIT %(limit)s
"""

WITHOUT_HOLES = """
SELECT xid::text, id, stream, value FROM (
    SELECT *, id - row_number() OVER (ORDER BY id) AS holes FROM one_table WHERE id > %(id)s
) AS numbered WHERE holes = %(id)s ORDER BY id LIMIT %(limit)s
"""


class Impatient(GapSafety):
    patience = 0.1


@pytest.fixture
def other_store(other_session: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Where another store has its table."""
    other_session.execute(
        """CREATE TABLE one_table (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, value int,
        xid xid8 DEFAULT pg_current_xact_id())"""
    )
    yield other_session
    other_session.execute("DROP TABLE one_table")


def faults(store: OneTable, table: psycopg.Connection[Any]) -> dict[str, type[Unsafe]]:
    """What is wrong with a store, by scenario."""
    found: dict[str, type[Unsafe]] = {}
    for name in (name for name in dir(GapSafety) if name.startswith("test_")):
        table.execute("TRUNCATE one_table RESTART IDENTITY")
        try:
            getattr(Impatient(), name)(store)
        except Unsafe as fault:
            found[name.removeprefix("test_")] = type(fault)
    return found


def test_a_cursor_on_an_identity_column_misses_what_commits_late(other_store: psycopg.Connection[Any]) -> None:
    assert faults(OneTable(BY_IDENTITY), other_store) == {
        "who_begins_first_and_commits_last_is_not_missed": Missed,
        "who_commits_at_the_edge_of_a_batch_is_not_missed": Missed,
        "transactions_of_several_statements_that_overlap_lose_nothing": Missed,
        "who_reads_later_sees_the_order_that_others_saw": Missed,
        "many_who_have_all_written_before_the_first_commits_lose_nothing": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_not_to_look_past_the_oldest_transaction_still_misses_and_is_held_up(
    other_store: psycopg.Connection[Any],
) -> None:
    assert faults(OneTable(BY_IDENTITY_BELOW_XMIN), other_store) == {
        "a_long_transaction_of_somebody_else_holds_nobody_up": Stalled,
        "a_long_transaction_in_another_database_holds_nobody_up": Stalled,
        # A transaction's later rows have higher numbers than those of one that is still open.
        "transactions_of_several_statements_that_overlap_lose_nothing": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_a_cursor_on_transactions_is_held_up_and_turns_streams_round(other_store: psycopg.Connection[Any]) -> None:
    assert faults(OneTable(BY_TRANSACTION), other_store) == {
        "a_long_transaction_of_somebody_else_holds_nobody_up": Stalled,
        "a_long_transaction_in_another_database_holds_nobody_up": Stalled,
        "a_stream_stays_in_order_when_the_transaction_of_its_later_event_began_first": Disordered,
        "random_schedules_lose_nothing": Disordered,
    }


def test_a_cursor_on_whole_transactions_loses_what_a_batch_cuts_off(other_store: psycopg.Connection[Any]) -> None:
    found = faults(OneTable(BY_WHOLE_TRANSACTION), other_store)
    assert found["a_transaction_larger_than_a_batch_comes_whole"] is Missed


def test_who_waits_for_every_number_waits_for_ever_after_a_rollback(other_store: psycopg.Connection[Any]) -> None:
    assert faults(OneTable(WITHOUT_HOLES), other_store) == {
        "what_is_rolled_back_never_comes_and_holds_nobody_up": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_who_takes_whatever_is_new_misses_nothing_and_has_an_order_of_his_own(
    other_store: psycopg.Connection[Any],
) -> None:
    assert faults(OneTable(WHATEVER_IS_NEW), other_store) == {
        "who_begins_first_and_commits_last_is_not_missed": Unsettled,
        "who_commits_at_the_edge_of_a_batch_is_not_missed": Unsettled,
        "transactions_of_several_statements_that_overlap_lose_nothing": Unsettled,
        "who_reads_later_sees_the_order_that_others_saw": Unsettled,
        "many_who_have_all_written_before_the_first_commits_lose_nothing": Unsettled,
        "random_schedules_lose_nothing": Unsettled,
        "writers_at_full_speed_lose_nothing": Unsettled,
    }


def test_a_store_without_transactions_shows_what_is_not_committed(other_store: psycopg.Connection[Any]) -> None:
    found = faults(OneTable(BY_IDENTITY, begin=""), other_store)
    assert found["nothing_is_seen_before_its_commit"] is Premature
    assert found["what_is_rolled_back_never_comes_and_holds_nobody_up"] is Premature


def test_a_store_whose_writers_queue_is_slow_and_safe(other_store: psycopg.Connection[Any]) -> None:
    locking = OneTable(BY_IDENTITY, lock="LOCK TABLE one_table IN EXCLUSIVE MODE")
    assert faults(locking, other_store) == {}
