"""Snapshots save reading events; they never change what is read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from django.db import transaction
from django.db.models.functions import Now

from eventing import nudges, recent, snapshots, states, store, upcasting
from eventing.domain import Aggregate, Personal, Value
from eventing.kinds import Kind, UnknownCategory, kind_of
from eventing.models import PersonKey, Snapshot
from eventing.money import Money
from eventing.nudges import Nudge
from eventing.records import Stream
from eventing.snapshots import Verdict
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountEvent, AccountOpened, MoneyPaidIn
from eventing.upcasting import upcasts

EVERY = 10


@pytest.fixture(autouse=True)
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accounts have snapshots; classes that a test defines are forgotten after it."""
    monkeypatch.setattr(Account, "snapshot_every", EVERY)
    monkeypatch.setattr(states, "_forms", {})
    yield
    monkeypatch.undo()
    kind_of.cache_clear()
    gc.collect()


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[Nudge]:
    """The snapshots that workers are asked for from now on."""
    sent: list[Nudge] = []
    monkeypatch.setattr(
        nudges, "send", lambda wanted: sent.extend(each for each in wanted if each.task == nudges.SNAPSHOT)
    )
    return sent


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


@pytest.fixture
def kept() -> UUID:
    """An account with a snapshot at version 25, and two events after it."""
    account = opens_account("Ada")
    appends(account, 24)
    snapshots.take(stream_of(account))
    appends(account, 2)
    recent.forget()
    return account


def appends(account: UUID, count: int) -> None:
    """So many payments of one, at once."""
    stream = stream_of(account)
    store.append(stream, [MoneyPaidIn(account_id=account, amount=1)] * count, expected=store.version(stream))


def seen(account: Account) -> dict[str, Any]:
    """All that is known of an account."""
    return {"version": account.version, "last": account.last_event_id, **states.state_of(account)}


@pytest.mark.django_db(transaction=True)
class TestTaking:
    def test_every_so_many_events_a_worker_is_asked_for_one(self, nudged: list[Nudge]) -> None:
        account = opens_account()
        pays_in(account, *[1] * 8)
        assert nudged == []
        pays_in(account, 1)
        assert nudged == [Nudge(nudges.SNAPSHOT, stream_of(account))]

    def test_an_append_that_passes_the_mark_asks_too(self, nudged: list[Nudge]) -> None:
        account = opens_account()
        appends(account, 13)
        assert [each.arguments for each in nudged] == [stream_of(account)]

    def test_what_is_rolled_back_asks_for_nothing(self, nudged: list[Nudge]) -> None:
        account = opens_account()
        with transaction.atomic():
            appends(account, 9)
            transaction.set_rollback(True)
        assert nudged == []

    def test_aggregates_without_a_policy_have_none(
        self, nudged: list[Nudge], statements: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Account, "snapshot_every", 0)
        account = opens_account()
        appends(account, 50)
        assert nudged == []
        statements.clear()
        store.load(Account, account)
        assert len(statements) == 1

    def test_events_of_an_unknown_category_are_appended_all_the_same(self, nudged: list[Nudge]) -> None:
        payment = MoneyPaidIn(account_id=uuid4(), amount=1)
        store.append(Stream("elsewhere", "1"), [payment] * 10, expected=0)
        assert nudged == []
        with pytest.raises(UnknownCategory):
            snapshots.take(Stream("elsewhere", "1"))

    def test_a_late_worker_replaces_nothing_newer(self, kept: UUID) -> None:
        snapshots.take(stream_of(kept))
        Snapshot.objects.update(state={"balance": 1_000, "owner": "", "closed": False, "address": ""}, version=30)
        snapshots.take(stream_of(kept))
        assert Snapshot.objects.get().version == 30

    def test_the_next_one_needs_only_the_events_since(self, kept: UUID, applied: list[AccountEvent]) -> None:
        snapshots.take(stream_of(kept))
        assert len(applied) == 2
        assert Snapshot.objects.get().version == 27


@pytest.mark.django_db(transaction=True)
class TestLoading:
    def test_only_the_events_since_are_read(self, kept: UUID, applied: list[AccountEvent]) -> None:
        account = store.load(Account, kept)
        assert len(applied) == 2
        assert (account.owner, account.balance, account.version) == ("Ada", 26, 27)

    def test_it_is_the_same_as_without(self, kept: UUID) -> None:
        with_snapshot = store.load(Account, kept)
        Snapshot.objects.all().delete()
        assert seen(with_snapshot) == seen(store.load(Account, kept))

    def test_an_edit_reads_only_the_events_since_as_well(self, kept: UUID, applied: list[AccountEvent]) -> None:
        pays_in(kept, 5)
        assert len(applied) == 3
        assert store.load(Account, kept).balance == 31

    def test_many_take_one_more_query_than_without(self, kept: UUID, statements: list[str]) -> None:
        others = [opens_account() for _ in range(20)]
        statements.clear()
        with store.edit_all(Account, [kept, *others]) as accounts:
            assert accounts[kept].balance == 26
        assert len(statements) == 2

    def test_what_the_process_remembers_needs_none(self, kept: UUID, statements: list[str]) -> None:
        pays_in(kept, 1)
        statements.clear()
        with store.edit(Account, kept) as account:
            assert account.balance == 27
        assert not any("eventing_snapshot" in statement for statement in statements)

    def test_however_long_the_stream_the_events_read_are_bounded(self, applied: list[AccountEvent]) -> None:
        account = opens_account()
        for _ in range(30):
            appends(account, EVERY)
            snapshots.take(stream_of(account))
        appends(account, EVERY - 1)
        applied.clear()
        assert store.load(Account, account).version == 310
        assert len(applied) == EVERY - 1

    def test_one_of_other_code_is_ignored_and_replaced(self, kept: UUID, applied: list[AccountEvent]) -> None:
        snapshots.take(stream_of(kept))
        Snapshot.objects.update(
            fingerprint="another", state={"balance": 1_000, "owner": "", "closed": False, "address": ""}
        )
        applied.clear()
        assert store.load(Account, kept).balance == 26
        assert len(applied) == 27
        snapshots.take(stream_of(kept))
        applied.clear()
        assert store.load(Account, kept).balance == 26
        assert applied == []

    def test_one_that_saw_another_last_event_is_ignored(self, kept: UUID) -> None:
        Snapshot.objects.update(
            last_event_id=uuid4(), state={"balance": 1_000, "owner": "", "closed": False, "address": ""}
        )
        assert store.load(Account, kept).balance == 26

    def test_one_that_is_ahead_of_the_stream_is_ignored(self, kept: UUID) -> None:
        Snapshot.objects.update(version=40, state={"balance": 1_000, "owner": "", "closed": False, "address": ""})
        assert store.load(Account, kept).balance == 26

    def test_one_that_cant_be_read_is_ignored(self, kept: UUID) -> None:
        Snapshot.objects.update(state={"balance": "a lot"})
        assert store.load(Account, kept).balance == 26


@pytest.mark.django_db(transaction=True)
class TestVerifying:
    def test_what_the_events_say_is_right(self, kept: UUID) -> None:
        assert list(snapshots.verify()) == [snapshots.Verified(stream_of(kept), 25, Verdict.RIGHT)]

    def test_a_state_that_the_events_dont_make_is_found(self, kept: UUID) -> None:
        Snapshot.objects.update(state={"balance": 1_000, "owner": "Ada", "closed": False, "address": ""})
        (found,) = snapshots.verify()
        assert (found.verdict, found.problem) == (Verdict.WRONG, "The stream's events make another state, in balance.")

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"version": 24}, "Event 24 of the stream isn't the last one"),
            ({"version": 40}, "Event 40 of the stream isn't the last one"),
            ({"state": {"balance": "a lot"}}, "The state can't be read"),
        ],
    )
    def test_what_cant_be_right_is_found(self, kept: UUID, changes: dict[str, Any], problem: str) -> None:
        Snapshot.objects.update(**changes)
        (found,) = snapshots.verify()
        assert found.verdict is Verdict.WRONG
        assert problem in found.problem

    def test_a_stream_that_cant_be_read_is_named(self, kept: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MoneyPaidIn, "stored_name", "bank.money_received")
        appends(kept, 1)
        monkeypatch.undo()
        Snapshot.objects.update(version=28)
        (found,) = snapshots.verify()
        assert found.verdict is Verdict.WRONG
        assert "No event class has the stored name 'bank.money_received'" in found.problem

    def test_those_of_other_code_and_of_no_code_are_told_apart(self, kept: UUID) -> None:
        Snapshot.objects.update(fingerprint="another")
        other = opens_account()
        snapshots.take(stream_of(other))
        Snapshot.objects.filter(stream_id=str(other)).update(category="elsewhere")
        assert [each.verdict for each in snapshots.verify()] == [Verdict.OUTDATED, Verdict.UNKNOWN]


def diary() -> Kind:
    class Diary(Aggregate[AccountEvent], category="diary", snapshot_every=EVERY):
        """Remembers who opened it."""

        writer: UUID | None = None
        name: Annotated[str, Personal("writer")] = ""
        entries = 0

        def apply(self, event: AccountEvent) -> None:
            match event:
                case AccountOpened():
                    self.writer, self.name = event.account_id, event.owner
                case _:
                    self.entries += 1

    return Diary


@pytest.fixture
def written() -> tuple[Kind, Stream]:
    """Ada's diary, with one entry and a snapshot."""
    kind, stream = diary(), Stream("diary", str(uuid4()))
    opened = AccountOpened(account_id=UUID(stream.id), owner="Ada")
    store.append(stream, [opened, MoneyPaidIn(account_id=UUID(stream.id), amount=1)], expected=0)
    snapshots.take(stream)
    return kind, stream


@pytest.mark.django_db(transaction=True)
class TestPersonalData:
    def test_it_is_sealed_in_the_snapshot_and_open_when_that_is_read(self, written: tuple[Kind, Stream]) -> None:
        kind, stream = written
        stored = Snapshot.objects.get().state
        assert "Ada" not in str(stored)
        Snapshot.objects.update(state={**stored, "entries": 100})  # to see it used
        found: Any = store.load(kind, UUID(stream.id))
        assert (found.name, found.entries) == ("Ada", 100)

    def test_a_snapshot_with_sealed_data_is_right(self, written: tuple[Kind, Stream]) -> None:
        assert [each.verdict for each in snapshots.verify()] == [Verdict.RIGHT]

    def test_once_its_person_is_forgotten_it_reads_so_and_newer_ones_have_nothing_to_seal(
        self, written: tuple[Kind, Stream]
    ) -> None:
        kind, stream = written
        PersonKey.objects.update(wrapped=None, forgotten_at=Now())
        found: Any = store.load(kind, UUID(stream.id))
        assert found.name == "[forgotten]"
        store.append(stream, [MoneyPaidIn(account_id=UUID(stream.id), amount=1)], expected=2)
        snapshots.take(stream)
        assert Snapshot.objects.get().version == 3
        assert Snapshot.objects.get().state["name"] == "[forgotten]"

    def test_one_whose_seal_was_changed_is_found_and_ignored(self, written: tuple[Kind, Stream]) -> None:
        kind, stream = written
        stored = Snapshot.objects.get().state
        stored["name"]["$personal"]["sealed"] = "bm9uc2Vuc2Ugbm9uc2Vuc2Ugbm9uc2Vuc2U="
        Snapshot.objects.update(state=stored)
        (found,) = snapshots.verify()
        assert found.verdict is Verdict.WRONG
        assert "has been changed" in found.problem
        loaded: Any = store.load(kind, UUID(stream.id))
        assert loaded.name == "Ada"


class Mood(Enum):
    CALM = "calm"


class Coin(Value):
    worth: Money
    found_by: UUID


def hoard() -> Kind:
    class Hoard(Aggregate[AccountEvent], category="hoard"):
        """Keeps a little of everything."""

        mood = Mood.CALM
        coins: tuple[Coin, ...] = ()
        names: frozenset[str] = frozenset()
        by_year: dict[int, list[Coin]] = {}
        first: MoneyPaidIn | None = None
        _counted = False

        def apply(self, event: AccountEvent) -> None:
            pass

    return Hoard


@pytest.mark.django_db
def test_every_kind_of_value_is_written_and_read_back() -> None:
    kind, coin = hoard(), Coin(worth=Money(minor=255, currency="GBP"), found_by=uuid4())
    one: Any = kind(uuid4())
    one.coins, one.names, one.by_year = (coin, coin), frozenset("dcab"), {1066: [coin]}
    one.first, one._counted = MoneyPaidIn(account_id=uuid4(), amount=1), True

    assert list(states.complaints(kind)) == []
    again = states.read(kind, one.id, states.write(one))
    assert states.state_of(again) == states.state_of(one)
    with pytest.raises(msgspec.ValidationError):
        states.read(kind, one.id, "{}")


def counting_in_ones() -> Kind:
    class Tally(Aggregate[AccountEvent], category="tally"):
        amount = 0

        def apply(self, event: AccountEvent) -> None:
            self.amount += 1

    return Tally


def counting_in_twos() -> Kind:
    class Tally(Aggregate[AccountEvent], category="tally"):
        amount = 0

        def apply(self, event: AccountEvent) -> None:
            self.amount += 2

    return Tally


def test_the_fingerprint_changes_with_the_code() -> None:
    assert states.fingerprint(counting_in_ones()) == states.fingerprint(counting_in_ones())
    assert states.fingerprint(counting_in_ones()) != states.fingerprint(counting_in_twos())


def test_the_fingerprint_changes_with_a_part_of_the_state_that_is_declared_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = hoard()
    before = states.fingerprint(kind)
    monkeypatch.setattr(states, "_forms", {})
    monkeypatch.setitem(kind.__annotations__, "coins", tuple[Money, ...])
    assert states.fingerprint(kind) != before


def test_the_fingerprint_changes_with_an_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    before = states.fingerprint(Account)
    monkeypatch.setattr(states, "_forms", {})
    monkeypatch.setattr(upcasting, "_upcasters", {})

    @upcasts(MoneyPaidIn, from_version=0)
    def from_pounds(payload: upcasting.Payload) -> upcasting.Payload:
        return {**payload, "amount": payload["amount"] * 100}

    assert states.fingerprint(Account) != before
