"""What a process remembers of long streams: never more than the store, and never without asking it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import transaction

from eventing import recent, store
from eventing.domain import Event, Rejected
from eventing.store import Append
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountEvent, MoneyPaidIn
from eventing.tests.conftest import InThreads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def long() -> UUID:
    """An account that this process remembers: a hundred payments of one."""
    account = opens_account()
    store.append(stream_of(account), payments(account, 100), expected=1)
    pays_in(account, 1)
    return account


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[AccountEvent]:
    """Every event that an account applies from now on."""
    seen: list[AccountEvent] = []
    apply = Account.apply

    def noting(self: Account, event: AccountEvent) -> None:
        seen.append(event)
        apply(self, event)

    monkeypatch.setattr(Account, "apply", noting)
    return seen


def payments(account: UUID, count: int) -> Sequence[Event]:
    return [MoneyPaidIn(account_id=account, amount=1)] * count


def test_of_a_long_stream_only_the_tail_is_read(long: UUID, applied: list[AccountEvent]) -> None:
    pays_in(long, 5)
    assert applied == [MoneyPaidIn(account_id=long, amount=5)]
    assert store.load(Account, long).balance == 106


def test_what_others_appended_meanwhile_is_seen(long: UUID, applied: list[AccountEvent], in_threads: InThreads) -> None:
    in_threads(lambda: store.append(stream_of(long), payments(long, 3), expected=102))
    pays_in(long, 5)
    assert applied == [*payments(long, 3), MoneyPaidIn(account_id=long, amount=5)]


def test_a_transaction_that_was_rolled_back_is_not_remembered(long: UUID) -> None:
    with transaction.atomic():
        pays_in(long, 1000)
        transaction.set_rollback(True)
    pays_in(long, 1)
    with store.edit(Account, long) as account:
        assert (account.balance, account.version) == (102, 103)


def test_a_savepoint_that_was_rolled_back_is_not_remembered(long: UUID) -> None:
    with transaction.atomic():
        with transaction.atomic():
            pays_in(long, 1000)
            transaction.set_rollback(True)
        pays_in(long, 1)
    with store.edit(Account, long) as account:
        assert (account.balance, account.version) == (102, 103)


def test_a_rejected_edit_is_not_remembered(long: UUID) -> None:
    def edit_and_refuse() -> None:
        with store.edit(Account, long) as account:
            account.pay_in(1000)
            raise Rejected("Not today.")

    with pytest.raises(Rejected):
        edit_and_refuse()
    with store.edit(Account, long) as account:
        assert (account.balance, account.recorded) == (101, [])


def test_a_state_that_isnt_in_the_store_is_thrown_away(long: UUID) -> None:
    """As after a restore of a backup from before its last events: the stream went on in another way."""
    elsewhere = uuid4()
    (remembered,) = recent.recall([stream_of(long)]).values()
    assert isinstance(remembered, Account)
    remembered.last_event_id, remembered.balance = elsewhere, 1_000_000
    recent.remember({stream_of(long): remembered})
    with store.edit(Account, long) as account:
        assert account.balance == 101


def test_a_state_that_is_ahead_of_the_store_is_thrown_away(long: UUID) -> None:
    (remembered,) = recent.recall([stream_of(long)]).values()
    remembered.version += 5
    recent.remember({stream_of(long): remembered})
    with store.edit(Account, long) as account:
        assert (account.balance, account.version) == (101, 102)


def test_of_several_aggregates_some_are_remembered_and_some_are_read(long: UUID) -> None:
    other, new = opens_account("Bob"), uuid4()
    store.append(stream_of(other), payments(other, 20), expected=1)
    with store.edit_all(Account, [long, other, new]) as accounts:
        assert [accounts[each].balance for each in (long, other, new)] == [101, 20, 0]


def test_short_streams_arent_worth_remembering() -> None:
    account = opens_account()
    pays_in(account, 1)
    assert recent.recall([stream_of(account)]) == {}


def test_the_oldest_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "CAPACITY", 2)
    accounts = [uuid4() for _ in range(3)]
    for account in accounts:
        store.append_all([Append(stream_of(account), 0, payments(account, 10))])
        with store.edit(Account, account):
            pass
    assert set(recent.recall(map(stream_of, accounts))) == {stream_of(each) for each in accounts[1:]}


def test_nobody_else_sees_a_state_while_it_is_edited(
    long: UUID, in_threads: InThreads, other_session: psycopg.Connection[object]
) -> None:
    with store.edit(Account, long) as mine:
        mine.pay_in(1000)
        (theirs,) = in_threads(lambda: store.load(Account, long).balance)
        assert theirs == 101
        assert recent.recall([stream_of(long)]) == {}
    assert other_session.execute("SELECT max(version) FROM eventing_event").fetchone() == (103,)
