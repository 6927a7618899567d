"""An aggregate as it was: at a version, and at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection

from eventing import recent, snapshots, store
from eventing.context import acting
from eventing.models import Snapshot
from eventing.store import NoSuchVersion
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import opens_account, pays_in, stream_of
from eventing.tests.bank.events import MoneyPaidIn

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account() -> UUID:
    """Opened, and paid into ten times: 1, 2, 3 …"""
    account = opens_account("Ada")
    pays_in(account, *range(1, 11))
    return account


def recorded_at(account: UUID, version: int) -> datetime:
    return next(store.read(stream_of(account), start=version)).recorded_at


@pytest.mark.parametrize(("version", "balance"), [(0, 0), (1, 0), (2, 1), (5, 10), (11, 55)])
def test_an_account_at_a_version(account: UUID, version: int, balance: int) -> None:
    then = store.load(Account, account, version=version)
    assert (then.version, then.balance) == (version, balance)


@pytest.mark.parametrize("version", [12, 2**31, 2**70, -1])
def test_a_version_that_there_isnt(account: UUID, version: int) -> None:
    with pytest.raises(NoSuchVersion, match=f"has the versions 0 to 11, and not {version}"):
        store.load(Account, account, version=version)


def test_an_account_at_a_time_is_the_one_that_the_log_knew_then(account: UUID) -> None:
    fifth = recorded_at(account, 5)
    assert store.load(Account, account, at=fifth).version == 5
    assert store.load(Account, account, at=fifth - timedelta(microseconds=1)).version == 4
    assert store.load(Account, account, at=recorded_at(account, 1) - timedelta(days=1)).version == 0
    assert store.load(Account, account, at=datetime.now(UTC) + timedelta(days=1)).balance == 55


def test_what_is_recorded_late_was_not_known_when_it_happened(account: UUID) -> None:
    before = datetime.now(UTC)
    with acting(occurred_at=before - timedelta(days=365)):
        pays_in(account, 1000)
    assert store.load(Account, account, at=before).balance == 55


def test_events_count_up_to_the_first_one_that_was_recorded_later(account: UUID) -> None:
    """A server's clock that was set back gives a later event an earlier time; versions are never taken out of turn."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "UPDATE eventing_event SET recorded_at = recorded_at - interval '1 hour' "
            "WHERE stream_id = %s AND version = 7",
            [str(account)],
        )
        cursor.execute("SET session_replication_role = origin")
    assert store.load(Account, account, at=recorded_at(account, 5)).version == 5


def test_a_time_needs_a_zone_and_only_one_of_both_can_be_asked_for(account: UUID) -> None:
    with pytest.raises(ValueError, match="a time without a zone"):
        store.load(Account, account, at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not for both"):
        store.load(Account, account, version=1, at=datetime.now(UTC))


def test_of_an_account_that_never_was_there_is_only_version_0() -> None:
    assert store.load(Account, uuid4(), version=0).version == 0
    assert store.load(Account, uuid4(), at=datetime.now(UTC)).version == 0
    with pytest.raises(NoSuchVersion, match="0 to 0, and not 1"):
        store.load(Account, uuid4(), version=1)


def test_a_snapshot_helps_only_those_who_ask_for_what_came_after_it(
    account: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Account, "snapshot_every", 100)
    snapshots.take(stream_of(account))
    at = recorded_at(account, 11)
    store.append(stream_of(account), [MoneyPaidIn(account_id=account, amount=1)] * 3, expected=11)
    Snapshot.objects.update(state={"owner": "Ada", "balance": 1055, "closed": False, "address": ""})  # to see it used
    assert [store.load(Account, account, version=each).balance for each in (5, 10, 11, 12)] == [10, 45, 1055, 1056]
    assert store.load(Account, account, at=at).balance == 1055


def test_the_past_is_not_remembered_as_the_present(account: UUID) -> None:
    recent.forget()
    store.load(Account, account, version=9)
    store.load(Account, account, at=recorded_at(account, 9))
    assert recent.recall([stream_of(account)]) == {}
