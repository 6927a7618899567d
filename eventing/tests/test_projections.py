from __future__ import annotations

import pytest

from eventing.advance import advance
from eventing.models import Checkpoint
from eventing.projections import ProjectionSubscription
from eventing.replay import projection_named, rebuild
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance, Entry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def balances() -> ProjectionSubscription:
    return projection_named("eventing.Balances")


@pytest.fixture
def entries() -> ProjectionSubscription:
    return projection_named("eventing.Entries")


def test_a_batch_takes_as_many_statements_as_a_single_event(
    balances: ProjectionSubscription, statements: list[str]
) -> None:
    pays_in(opens_account(), 1)
    everything_is_relayed()
    while advance(balances, 0):
        pass
    pays_in(opens_account(), 1)
    everything_is_relayed()
    statements.clear()
    assert advance(balances, 0)
    one = len(statements)
    for _ in range(30):
        pays_in(opens_account(), 1, 2)
    everything_is_relayed()
    statements.clear()
    assert advance(balances, 0)
    assert len(statements) == one
    assert sum("bank_balance" in each for each in statements) == 2
    assert Balance.objects.count() == 32


def test_a_listing_writes_a_batch_with_one_statement(entries: ProjectionSubscription, statements: list[str]) -> None:
    for _ in range(10):
        pays_in(opens_account(), 1, 2, 3)
    everything_is_relayed()
    statements.clear()
    assert advance(entries, 0)
    assert sum("bank_entry" in each for each in statements) == 1
    assert Entry.objects.count() == 30


def test_events_of_one_row_are_applied_in_order_in_one_batch_or_in_many(balances: ProjectionSubscription) -> None:
    account = opens_account("Ada")
    pays_in(account, 1, 2)
    closes_account(account)
    everything_is_relayed()
    while advance(balances, 0, batch=1):
        pass
    row = Balance.objects.get()
    assert (row.owner, row.amount, row.payments, row.version, row.closed) == ("Ada", 3, 2, 4, True)


def test_a_record_is_passed_to_those_who_ask_for_it(balances: ProjectionSubscription) -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    everything_is_relayed()
    advance(balances, 0)
    assert Balance.objects.get().version == 3


def test_a_replay_ends_with_the_rows_that_were_there(
    balances: ProjectionSubscription, entries: ProjectionSubscription
) -> None:
    for number in range(20):
        account = opens_account(f"Owner {number}")
        pays_in(account, *range(number))
    everything_is_relayed()
    while advance(balances, 0, batch=7) or advance(entries, 0, batch=7):
        pass
    before = (
        list(Balance.objects.order_by("pk").values()),
        list(Entry.objects.order_by("id").values("account_id", "amount")),
    )
    for projection in (balances, entries):
        assert rebuild(projection).position == Checkpoint.objects.get(subscription=projection.name).position
    after = (
        list(Balance.objects.order_by("pk").values()),
        list(Entry.objects.order_by("id").values("account_id", "amount")),
    )
    assert after == before
