"""Waybill's store passes the conformance suite for stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction

from eventing import advance, checkpoints, store
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.subscriptions import subscription_named
from eventing.testing import GapSafety
from eventing.testing.gap_safety import Entry
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.conftest import database_url

NOBODY = UUID(int=0)


@contextmanager
def open_transaction(url: str) -> Iterator[None]:
    """Somebody who has written something else and doesn't commit."""
    with psycopg.connect(url) as bystander:
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
        records = advance.read(self._subscription, 0, after=self._position, until=checkpoints.head(), limit=self._batch)
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

    def bystander(self, *, elsewhere: bool) -> AbstractContextManager[None]:
        return open_transaction(database_url("postgres" if elsewhere else ""))


class TestWaybill(GapSafety):
    @pytest.fixture
    def store(self, transactional_db: None) -> Waybill:
        return Waybill()
