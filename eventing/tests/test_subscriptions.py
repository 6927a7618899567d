from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connection

from eventing import advance as advancing
from eventing import checkpoints, store, subscriptions
from eventing.advance import DEADLY_ATTEMPTS, advance, read
from eventing.checkpoints import NotDrained, make_missing, pause, repartition, resume
from eventing.models import Checkpoint, Delivery, LogEntry
from eventing.projections import Listing
from eventing.records import Record
from eventing.subscriptions import Subscription, UnknownSubscription, subscription_named
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn
from eventing.tests.bank.models import Balance, Entry
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import InThreads, Program

pytestmark = pytest.mark.django_db(transaction=True)


class Noting(Subscription):
    """Notes what it is given."""

    kind = "noting"
    starts_at_head = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"name": "eventing.Noting", "events": [AccountOpened, MoneyPaidIn], **options})
        self.noted: list[tuple[int, int]] = []

    def handle(self, records: Sequence[Record], partition: int) -> int:
        self.noted += [(partition, record.position) for record in records]
        return len(records)


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Noting:
    """A subscription of four partitions with its checkpoints, ordered by account."""
    noting = Noting(partitions=4, key="account_id")
    monkeypatch.setitem(subscriptions._subscriptions, noting.name, noting)
    make_missing()
    return noting


@pytest.fixture
def balances() -> Subscription:
    return subscription_named("eventing.Balances")


@pytest.fixture
def entries() -> Subscription:
    return subscription_named("eventing.Entries")


def caught_up(subscription: Subscription) -> None:
    for partition in range(subscription.partitions):
        while advance(subscription, partition):
            pass


def position(subscription: Subscription, partition: int = 0) -> int:
    return Checkpoint.objects.get(subscription=subscription.name, partition=partition).position


def waits_for_the_sweep(subscription: Subscription) -> None:
    """Let the second pass after which somebody who began and never ended counts as dead."""
    Checkpoint.objects.filter(subscription=subscription.name).update(begun_at="2020-01-01T00:00Z")


def test_a_subscription_handles_each_event_once_and_remembers_where_it_is(balances: Subscription) -> None:
    account = opens_account()
    pays_in(account, 1, 2)
    assert everything_is_relayed() == 3
    caught_up(balances)
    assert (Balance.objects.get().amount, Balance.objects.get().payments) == (3, 2)
    assert not advance(balances, 0)
    pays_in(account, 3)
    everything_is_relayed()
    caught_up(balances)
    assert (Balance.objects.get().amount, Balance.objects.get().payments) == (6, 3)
    assert position(balances) == 4


def test_the_position_moves_past_what_doesnt_concern_the_subscription(entries: Subscription) -> None:
    for _ in range(5):
        opens_account()
    everything_is_relayed()
    caught_up(entries)
    assert position(entries) == 5
    assert Checkpoint.objects.get(subscription=entries.name).handled == 0


def test_a_session_that_ends_inside_of_a_batch_leaves_nothing_and_the_batch_comes_again(
    entries: Subscription, other_session: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    pays_in(account, 1, 2, 3)
    everything_is_relayed()
    project = Listing.project

    def project_and_lose_the_session(self: Any, records: Sequence[Record]) -> None:
        project(self, records)
        assert Entry.objects.count() == 3
        other_session.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])

    with monkeypatch.context() as patched:
        patched.setattr(Listing, "project", project_and_lose_the_session)
        with pytest.raises(OperationalError):
            advance(entries, 0)
    assert (Entry.objects.count(), position(entries)) == (0, 0)
    assert not advance(entries, 0)  # whoever began a moment ago may still be at it
    waits_for_the_sweep(entries)
    caught_up(entries)
    assert (Entry.objects.count(), position(entries)) == (3, 4)
    assert not Delivery.objects.exists()


def test_many_workers_on_one_partition_handle_each_event_once(
    entries: Subscription, balances: Subscription, in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subscription, "batch", 3)
    accounts = [opens_account() for _ in range(10)]
    for account in accounts:
        pays_in(account, *range(1, 11))
    total = everything_is_relayed()

    def work() -> None:
        while position(entries) < total or position(balances) < total:
            caught_up(entries)
            caught_up(balances)

    in_threads(*[work] * 6)
    assert Entry.objects.count() == 100
    assert {each.amount for each in Balance.objects.all()} == {55}
    assert not Delivery.objects.exists()
    assert {each.attempts for each in Checkpoint.objects.filter(subscription=entries.name)} == {0}
    assert {each.careful_until for each in Checkpoint.objects.filter(subscription=balances.name)} == {0}


def test_who_was_overtaken_after_he_had_begun_does_nothing(
    entries: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    pays_in(opens_account(), 1, 2, 3)
    everything_is_relayed()
    handle: Any = advancing._handle

    def stall(*args: Any) -> bool:
        monkeypatch.setattr(advancing, "_handle", handle)
        waits_for_the_sweep(entries)
        caught_up(entries)
        overtaken: bool = handle(*args)
        return overtaken

    monkeypatch.setattr(advancing, "_handle", stall)
    assert not advance(entries, 0)
    assert Entry.objects.count() == 3


def test_of_a_batch_that_fails_only_the_event_that_fails_is_parked(balances: Subscription) -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    pays_in(ada, 1)
    pays_in(bob, 2, POISON, 3)
    pays_in(ada, 4)
    total = everything_is_relayed()
    caught_up(balances)
    assert position(balances) == total
    assert {each.owner: (each.amount, each.payments) for each in Balance.objects.all()} == {
        "Ada": (5, 2),
        "Bob": (2, 1),
    }
    assert [(each.position, each.attempts) for each in Delivery.objects.order_by("position")] == [(5, 1), (6, 0)]


@pytest.mark.parametrize(
    ("key", "partitions", "expected"),
    [
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", 4, 1),
        ("00000000-0000-0000-0000-000000000000", 4, 2),
        ("00000000-0000-0000-0000-000000000000", 7, 4),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", 256, 19),
    ],
)
def test_the_partition_of_a_key_never_changes(key: str, partitions: int, expected: int) -> None:
    assert hashlib.sha256(key.encode()).digest()[0] % partitions == expected
    opens_account(account_id=UUID(key))
    everything_is_relayed()
    noting = Noting(partitions=partitions, key="account_id")
    found = [each for each in range(partitions) if read(noting, each, after=0, until=1, limit=1)]
    assert found == [expected]


def test_each_event_belongs_to_one_partition(noting: Noting) -> None:
    for _ in range(40):
        pays_in(opens_account(), 1)
    total = everything_is_relayed()
    caught_up(noting)
    assert sorted(position for _, position in noting.noted) == list(range(1, total + 1))
    assert {partition for partition, _ in noting.noted} == {0, 1, 2, 3}
    owner = {each.position: each.event.stream_id for each in LogEntry.objects.select_related("event")}
    assert len({(partition, owner[position]) for partition, position in noting.noted}) == 40


def test_a_subscription_without_a_key_is_ordered_by_stream() -> None:
    account = opens_account()
    everything_is_relayed()
    (record,) = read(Noting(), 0, after=0, until=1, limit=10)
    assert record.key == f"account-{account}"


def test_a_paused_subscription_stands_still_until_it_is_resumed(noting: Noting) -> None:
    opens_account()
    everything_is_relayed()
    assert pause(noting) == 4
    caught_up(noting)
    assert noting.noted == []
    assert pause(noting) == 0
    assert resume(noting) == 4
    caught_up(noting)
    assert len(noting.noted) == 1


def test_a_read_model_that_was_never_built_is_of_the_version_that_will_build_it(
    noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    Checkpoint.objects.filter(subscription=noting.name).delete()
    monkeypatch.setattr(noting, "version", 3)
    make_missing()
    pause(noting)
    monkeypatch.setattr(noting, "version", 4)
    make_missing()
    repartition(noting)
    assert set(Checkpoint.objects.filter(subscription=noting.name).values_list("version", flat=True)) == {3}


def test_a_subscription_is_split_anew_when_it_is_drained_and_paused(
    noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        opens_account()
    everything_is_relayed()
    wider = Noting(partitions=6, key="account_id")
    with pytest.raises(NotDrained, match="pause it with"):
        repartition(wider)
    advance(noting, 0)
    pause(noting)
    with pytest.raises(NotDrained, match=r"are at \[0, 10\]"):
        repartition(wider)
    resume(noting)
    caught_up(noting)
    pause(noting)
    repartition(wider)
    assert set(Checkpoint.objects.filter(subscription=noting.name).values_list("partition", "position", "state")) == {
        (partition, 10, "paused") for partition in range(6)
    }
    resume(wider)
    pays_in(opens_account(), 1)
    everything_is_relayed()
    caught_up(wider)
    assert sorted(position for _, position in wider.noted) == [11, 12]


def test_a_subscription_with_parked_events_isnt_split_anew(balances: Subscription) -> None:
    pays_in(opens_account(), POISON)
    everything_is_relayed()
    caught_up(balances)
    pause(balances)
    with pytest.raises(NotDrained, match="1 events of it wait"):
        repartition(balances)


def test_a_new_projection_begins_at_the_beginning_and_a_new_saga_or_effect_at_the_head() -> None:
    opens_account()
    everything_is_relayed()
    Checkpoint.objects.all().delete()
    make_missing()
    positions = {each.subscription: each.position for each in Checkpoint.objects.all()}
    assert positions["eventing.Balances"] == 0
    assert positions["eventing.Welcome"] == positions["eventing.farewell"] == 1


def test_checkpoints_that_exist_are_left_alone(balances: Subscription) -> None:
    opens_account()
    everything_is_relayed()
    caught_up(balances)
    before = Checkpoint.objects.count()
    make_missing()
    assert (Checkpoint.objects.count(), position(balances)) == (before, 1)


def test_two_subscriptions_cant_have_one_name() -> None:
    with pytest.raises(ValueError, match=r"There are two subscriptions named 'eventing\.Balances'"):
        subscriptions.subscribe(Noting(name="eventing.Balances"))


def test_an_unknown_subscription_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(UnknownSubscription, match=r"eventing\.Balances, .*eventing\.Welcome"):
        subscription_named("eventing.Balance")


def test_an_event_that_kills_its_worker_is_parked_after_a_few_attempts_while_others_flow(
    balances: Subscription, program: Program
) -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    pays_in(ada, 1, POISON, 2)
    pays_in(bob, 3)
    total = everything_is_relayed()
    output, errors = program("eventing.tests.bank", "project_to_death", balances.name).communicate(timeout=60)
    assert output == f"{1 + DEADLY_ATTEMPTS}\n", errors  # the first time it was in a batch
    assert position(balances) == total
    assert {each.owner: each.amount for each in Balance.objects.all()} == {"Ada": 1, "Bob": 3}
    assert [each.position for each in Delivery.objects.order_by("position")] == [4, 5]
    assert "never ended" in Delivery.objects.earliest("position").error


def test_an_event_that_cant_be_read_is_parked_while_others_flow(balances: Subscription) -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    unreadable: Any = "much"
    store.append(stream_of(ada), [MoneyPaidIn(account_id=ada, amount=unreadable)], expected=1)
    pays_in(bob, 1)
    total = everything_is_relayed()
    caught_up(balances)
    assert position(balances) == total
    assert Balance.objects.get(owner="Bob").amount == 1
    (letter,) = Delivery.objects.all()
    assert "Expected `int`, got `str`" in letter.error


def test_status_of_a_batch_is_noted(balances: Subscription) -> None:
    closes_account(opens_account())
    everything_is_relayed()
    caught_up(balances)
    row = Checkpoint.objects.get(subscription=balances.name)
    assert (row.handled, row.attempts, row.begun_at) == (2, 0, None)
    assert row.rate > 0
    assert row.moved_at is not None
    assert checkpoints.head() == 2
