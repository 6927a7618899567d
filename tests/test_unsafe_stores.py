"""Stores that are known to lose, repeat, turn round or hold up events don't pass the conformance suite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Timer
from typing import Any, LiteralString

import psycopg
import pytest

from config.embedded.postgres import EmbeddedPostgres
from eventing.testing import GapSafety
from eventing.testing.gap_safety import Disordered, Entry, Missed, Premature, Scribe, Stalled, Unsafe, Unsettled
from eventing.tests.test_conformance import open_transaction


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

    def __init__(
        self,
        server: EmbeddedPostgres,
        read: LiteralString,
        *,
        begin: LiteralString = "BEGIN",
        lock: LiteralString = "",
    ) -> None:
        self._server, self._read, self._begin, self._lock = server, read, begin, lock

    def empty(self) -> None:
        """Begin anew."""
        with self._session() as session:
            session.execute("DROP TABLE IF EXISTS one_table")
            session.execute(
                """CREATE TABLE one_table (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, value int,
                xid xid8 DEFAULT pg_current_xact_id())"""
            )

    @contextmanager
    def writer(self) -> Iterator[OneTableWriter]:
        with self._session() as session:
            yield OneTableWriter(session, self._begin, self._lock)

    @contextmanager
    def follower(self, batch: int) -> Iterator[OneTableFollower]:
        with self._session() as session:
            yield OneTableFollower(session, self._read, batch)

    def bystander(self, *, elsewhere: bool) -> AbstractContextManager[None]:
        return open_transaction(self._server.url("postgres") if elsewhere else self._server.url())

    def _session(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._server.url(), autocommit=True)


BY_IDENTITY = "SELECT xid::text, id, stream, value FROM one_table WHERE id > %(id)s ORDER BY id LIMIT %(limit)s"

BY_IDENTITY_BELOW_XMIN = """
SELECT xid::text, id, stream, value FROM one_table
WHERE id > %(id)s AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY id LIMIT %(limit)s
"""

BY_TRANSACTION = """
SELECT xid::text, id, stream, value FROM one_table
WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY one_table.xid, id LIMIT %(limit)s
"""

WHATEVER_IS_NEW = """
SELECT xid::text, id, stream, value FROM one_table WHERE id <> ALL (%(ids)s) ORDER BY id LIMIT %(limit)s
"""

BY_WHOLE_TRANSACTION = """
SELECT xid::text, id, stream, value FROM one_table
WHERE xid > %(xid)s::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY one_table.xid, id LIMIT %(limit)s
"""

WITHOUT_HOLES = """
SELECT xid::text, id, stream, value FROM (
    SELECT *, id - row_number() OVER (ORDER BY id) AS holes FROM one_table WHERE id > %(id)s
) AS numbered WHERE holes = %(id)s ORDER BY id LIMIT %(limit)s
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of their own: what other tests do on a shared one would hold these stores up."""
    with tempfile.TemporaryDirectory() as state:
        Path(state).chmod(0o711)  # PostgreSQL runs under another account when this one is root
        with EmbeddedPostgres(Path(state), durable=False) as postgres:
            yield postgres


def faults(store: OneTable, *, patience: float = 0.1) -> dict[str, type[Unsafe]]:
    """What is wrong with a store, by scenario."""
    suite = GapSafety()
    suite.patience = patience
    found: dict[str, type[Unsafe]] = {}
    for name in (name for name in dir(GapSafety) if name.startswith("test_")):
        store.empty()
        try:
            getattr(suite, name)(store)
        except Unsafe as fault:
            found[name.removeprefix("test_")] = type(fault)
    return found


def test_a_cursor_on_an_identity_column_misses_what_commits_late(server: EmbeddedPostgres) -> None:
    assert faults(OneTable(server, BY_IDENTITY)) == {
        "who_begins_first_and_commits_last_is_not_missed": Missed,
        "who_commits_at_the_edge_of_a_batch_is_not_missed": Missed,
        "transactions_of_several_statements_that_overlap_lose_nothing": Missed,
        "who_reads_later_sees_the_order_that_others_saw": Missed,
        "many_who_have_all_written_before_the_first_commits_lose_nothing": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_not_to_look_past_the_oldest_transaction_still_misses_and_is_held_up(server: EmbeddedPostgres) -> None:
    assert faults(OneTable(server, BY_IDENTITY_BELOW_XMIN), patience=1) == {
        "a_long_transaction_of_somebody_else_holds_nobody_up": Stalled,
        "a_long_transaction_in_another_database_holds_nobody_up": Stalled,
        # A transaction's later rows have higher numbers than those of one that is still open.
        "transactions_of_several_statements_that_overlap_lose_nothing": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_a_cursor_on_transactions_is_held_up_and_turns_streams_round(server: EmbeddedPostgres) -> None:
    assert faults(OneTable(server, BY_TRANSACTION), patience=1) == {
        "a_long_transaction_of_somebody_else_holds_nobody_up": Stalled,
        "a_long_transaction_in_another_database_holds_nobody_up": Stalled,
        "a_stream_stays_in_order_when_the_transaction_of_its_later_event_began_first": Disordered,
        "random_schedules_lose_nothing": Disordered,
    }


def test_a_cursor_on_whole_transactions_loses_what_a_batch_cuts_off(server: EmbeddedPostgres) -> None:
    found = faults(OneTable(server, BY_WHOLE_TRANSACTION), patience=1)
    assert found["a_transaction_larger_than_a_batch_comes_whole"] is Missed


def test_who_waits_for_every_number_waits_for_ever_after_a_rollback(server: EmbeddedPostgres) -> None:
    assert faults(OneTable(server, WITHOUT_HOLES)) == {
        "what_is_rolled_back_never_comes_and_holds_nobody_up": Missed,
        "random_schedules_lose_nothing": Missed,
        "writers_at_full_speed_lose_nothing": Missed,
    }


def test_who_takes_whatever_is_new_misses_nothing_and_has_an_order_of_his_own(server: EmbeddedPostgres) -> None:
    assert faults(OneTable(server, WHATEVER_IS_NEW)) == {
        "who_begins_first_and_commits_last_is_not_missed": Unsettled,
        "who_commits_at_the_edge_of_a_batch_is_not_missed": Unsettled,
        "transactions_of_several_statements_that_overlap_lose_nothing": Unsettled,
        "who_reads_later_sees_the_order_that_others_saw": Unsettled,
        "many_who_have_all_written_before_the_first_commits_lose_nothing": Unsettled,
        "random_schedules_lose_nothing": Unsettled,
        "writers_at_full_speed_lose_nothing": Unsettled,
    }


def test_a_store_without_transactions_shows_what_is_not_committed(server: EmbeddedPostgres) -> None:
    found = faults(OneTable(server, BY_IDENTITY, begin=""))
    assert found["nothing_is_seen_before_its_commit"] is Premature
    assert found["what_is_rolled_back_never_comes_and_holds_nobody_up"] is Premature


def test_a_store_whose_writers_queue_is_slow_and_safe(server: EmbeddedPostgres) -> None:
    locking = OneTable(server, BY_IDENTITY, lock="LOCK TABLE one_table IN EXCLUSIVE MODE")
    assert faults(locking) == {}


def test_who_still_writes_when_a_scenario_fails_has_ended_before_the_next_begins(server: EmbeddedPostgres) -> None:
    suite, store = GapSafety(), OneTable(server, BY_IDENTITY)
    suite.patience = 0.01
    store.empty()
    machine_goes_on, has_written = Event(), Event()

    def slowly(scribe: Scribe) -> None:
        assert machine_goes_on.wait(timeout=30)
        scribe.begin()
        scribe.append("a")
        scribe.commit()
        has_written.set()

    def fails() -> None:
        with suite.play(store) as play:
            play.session().work(slowly)
            Timer(0.3, machine_goes_on.set).start()
            raise Missed("Something else was found.")

    with pytest.raises(Missed):
        fails()
    assert has_written.is_set()
