"""Many at once, each with a connection of its own."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import transaction

from eventing import handlers, store
from eventing.domain import Event
from eventing.handlers import dispatch
from eventing.models import StoredEvent
from eventing.store import Append, ConflictError
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import PayIn, Transfer
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.conftest import InThreads

pytestmark = pytest.mark.django_db(transaction=True)


def payment(account: UUID, amount: int) -> list[Event]:
    return [MoneyPaidIn(account_id=account, amount=amount)]


def test_of_two_who_append_at_once_one_is_told_of_the_conflict(in_threads: InThreads) -> None:
    account, together = opens_account(), Barrier(2)

    def append() -> ConflictError | None:
        with transaction.atomic():
            store.version(stream_of(account))
            together.wait()
            try:
                store.append(stream_of(account), payment(account, 1), expected=1)
            except ConflictError as conflict:
                assert store.version(stream_of(account)) == 2  # the transaction is usable
                return conflict
        return None

    (conflict,) = filter(None, in_threads(append, append))
    assert (conflict.stream, conflict.expected, conflict.actual) == (stream_of(account), 1, 2)
    assert store.version(stream_of(account)) == 2


def test_who_appends_to_a_version_that_isnt_committed_yet_waits_and_is_told_of_the_conflict(
    in_threads: InThreads, other_session: psycopg.Connection[object]
) -> None:
    account, written = opens_account(), Barrier(2)

    def first() -> None:
        with transaction.atomic():
            store.append(stream_of(account), payment(account, 1), expected=1)
            written.wait()
            while not other_session.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone():
                pass

    def second() -> int:
        written.wait()
        with pytest.raises(ConflictError) as caught:
            store.append(stream_of(account), payment(account, 2), expected=1)
        return caught.value.actual

    assert in_threads(first, second) == [None, 2]


def test_what_many_pay_into_one_account_arrives_once_each(
    in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CONFLICT_ATTEMPTS", 1000)
    account, payers, each = opens_account(), 6, 25

    def pay(payer: int) -> None:
        pays_in(account, *(payer * 1000 + number for number in range(each)))

    in_threads(*(partial(pay, payer) for payer in range(payers)))
    records = list(store.read(stream_of(account)))
    assert [record.version for record in records] == list(range(1, payers * each + 2))
    paid = [record.event.amount for record in records if isinstance(record.event, MoneyPaidIn)]
    assert Counter(paid) == Counter(payer * 1000 + number for payer in range(payers) for number in range(each))
    for payer in range(payers):
        mine = [amount for amount in paid if amount // 1000 == payer]
        assert mine == sorted(mine)
    everything_is_relayed()
    assert [record.version for record in sorted(store.read(stream_of(account)), key=lambda each: each.position)] == [
        record.version for record in records
    ]


def test_fifty_who_queue_for_a_hot_stream_never_conflict(
    in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CONFLICT_ATTEMPTS", 1)
    hot, together = opens_account(), Barrier(50)

    def pay() -> None:
        together.wait()
        dispatch(Transfer(accounts=(hot,), amount=1))

    in_threads(*[pay] * 50)
    assert store.load(Account, hot).balance == 50


def test_those_who_write_many_streams_in_any_order_never_wait_in_a_circle(
    in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CONFLICT_ATTEMPTS", 1)
    accounts = [opens_account() for _ in range(6)]

    def pay(seed: int) -> None:
        order = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(10):
            dispatch(Transfer(accounts=tuple(order.sample(accounts, 4)), amount=1))

    in_threads(*(partial(pay, seed) for seed in range(10)))
    assert sum(store.load(Account, each).balance for each in accounts) == 10 * 10 * 4


def test_appends_of_many_new_streams_in_opposite_orders_never_wait_in_a_circle(in_threads: InThreads) -> None:
    rounds = [[uuid4() for _ in range(40)] for _ in range(15)]
    together = Barrier(2)

    def append(*, backwards: bool) -> int:
        won = 0
        for accounts in rounds:
            together.wait()
            try:
                store.append_all(
                    [
                        Append(stream_of(each), 0, payment(each, 1))
                        for each in (reversed(accounts) if backwards else accounts)
                    ]
                )
                won += 1
            except ConflictError:
                pass
        return won

    assert sum(in_threads(partial(append, backwards=False), partial(append, backwards=True))) == len(rounds)
    assert StoredEvent.objects.count() == 15 * 40


def test_nobody_waits_for_a_lock_of_a_transaction_that_ended(in_threads: InThreads) -> None:
    hot = opens_account()
    with transaction.atomic():
        dispatch(Transfer(accounts=(hot,), amount=1))
        transaction.set_rollback(True)
    in_threads(lambda: dispatch(Transfer(accounts=(hot,), amount=2)))
    dispatch(PayIn(account_id=hot, amount=3))
    assert store.load(Account, hot).balance == 5
