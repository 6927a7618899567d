"""Replays that operators leave to the workers: built in slices, compared, and exchanged when somebody says so."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from eventing import audit, nudges, replay, replaying, sweeping
from eventing.advance import advance
from eventing.models import Replay
from eventing.projections import ProjectionSubscription
from eventing.replay import Busy, NoReplay, comparison_of, is_tended, work_on
from eventing.shadows import exists, shadow_of
from eventing.statements import run
from eventing.testing import settle
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import InThreads, Program
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clerk() -> User:
    return User.objects.create_user("clerk")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BATCH", 3)


@pytest.fixture
def accounts() -> list[UUID]:
    """Five accounts with a payment of six each and a bonus of five; the live read model says 0, which is wrong."""
    opened = [opens_account(str(number)) for number in range(5)]
    for account in opened:
        pays_in(account, 6)
    settle()
    Balance.objects.update(amount=0)
    return opened


def amounts() -> list[int]:
    return list(Balance.objects.order_by("account_id").values_list("amount", flat=True))


def started(projection: ProjectionSubscription, who: User, **options: Any) -> Replay:
    return replaying.start(projection, who=who, **options)


def worked(projection: ProjectionSubscription) -> Replay:
    """Let workers do all that they would do. Returns the replay as it is then."""
    while work_on(projection, budget=60):
        pass
    return Replay.objects.latest("pk")


def test_once_compared_it_waits_until_somebody_has_seen_that(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    started(balances, clerk)
    waiting = worked(balances)
    assert waiting.state == "compared"
    found = comparison_of(waiting)
    assert found is not None
    assert (found.different, found.live_rows) == (5, 5)
    assert amounts() == [0] * 5
    assert not work_on(balances, budget=60)

    replaying.exchange(balances, who=clerk)
    assert amounts() == [0] * 5
    done = worked(balances)
    assert (done.state, comparison_of(done)) == ("done", found)
    assert amounts() == [11] * 5

    replaying.roll_back(balances, who=clerk)
    assert amounts() == [0] * 5


def test_what_happens_while_it_waits_is_in_it(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    started(balances, clerk)
    worked(balances)
    for account in accounts:
        pays_in(account, 1)
    everything_is_relayed()
    while advance(balances, 0):
        pass
    assert amounts() == [1] * 5
    replaying.exchange(balances, who=clerk)
    pays_in(accounts[0], 1)
    everything_is_relayed()
    worked(balances)
    settle()
    assert sorted(amounts()) == [12] * 4 + [13]


def test_a_slice_lasts_as_long_as_it_may_and_the_next_goes_on(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    begun, slices, reached = started(balances, clerk), 0, -1
    while work_on(balances, budget=0):
        begun.refresh_from_db()
        assert begun.runner is None
        assert begun.position >= reached
        reached, slices = begun.position, slices + 1
    assert slices > 3
    assert worked(balances).state == "compared"


def test_one_that_only_verifies_ends_when_it_is_compared(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    started(balances, clerk, verify_only=True)
    verified = worked(balances)
    assert verified.state == "verified"
    assert comparison_of(verified) is not None
    assert not exists(shadow_of(balances))


def test_a_pause_lets_go_of_the_worker(balances: ProjectionSubscription, accounts: list[UUID], clerk: User) -> None:
    started(balances, clerk)
    assert work_on(balances, budget=0)
    replaying.pause(balances, who=clerk)
    assert not work_on(balances, budget=60)
    assert Replay.objects.get().state == "paused"
    replaying.resume(balances, who=clerk)
    assert worked(balances).state == "compared"


@pytest.mark.parametrize("compared", [False, True])
def test_it_can_be_given_up(
    compared: bool, balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    started(balances, clerk)
    assert work_on(balances, budget=60 if compared else 0) is not compared
    replaying.cancel(balances, who=clerk)
    assert worked(balances).state == "cancelled"
    assert not exists(shadow_of(balances))
    assert amounts() == [0] * 5


def test_of_many_workers_one_is_at_it(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, in_threads: InThreads
) -> None:
    started(balances, clerk)
    while any(in_threads(*[lambda: work_on(balances, budget=0.01)] * 4)):
        pass
    assert Replay.objects.get().state == "compared"
    replaying.exchange(balances, who=clerk)
    while any(in_threads(*[lambda: work_on(balances, budget=0.01)] * 4)):
        pass
    assert amounts() == [11] * 5


def test_while_a_worker_lives_it_is_not_taken_to_be_dead(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, in_threads: InThreads
) -> None:
    begun = started(balances, clerk)
    assert not is_tended(begun)
    run(replay.TEND, {"replay": begun.pk})
    Replay.objects.update(runner=UUID(int=7), seen_at=timezone.now() - timedelta(minutes=5))
    begun.refresh_from_db()
    assert is_tended(begun)
    assert in_threads(lambda: work_on(balances, budget=60)) == [False]
    with pytest.raises(Busy):
        replay.start(balances)
    run(replay.LEAVE, {"replay": begun.pk})
    assert not is_tended(begun)
    assert worked(balances).state == "compared"


def test_killed_at_any_moment_another_worker_goes_on_at_once(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, program: Program
) -> None:
    started(balances, clerk)
    reached = 0
    for _ in range(3):
        worker = program("eventing.tests.bank", "work_slowly_on_the_replay_of", balances.name)
        assert eventually(lambda: shadow_of(balances).positions()[0] > reached)  # noqa: B023
        eventually(lambda: False, seconds=random.random() * 0.4)  # noqa: S311 - any moment will do
        worker.kill()
        worker.wait()
        reached = shadow_of(balances).positions()[0]
        assert amounts() == [0] * 5
    assert eventually(lambda: not is_tended_by_a_worker())
    assert worked(balances).state == "compared"
    replaying.exchange(balances, who=clerk)
    worked(balances)
    assert amounts() == [11] * 5


def is_tended_by_a_worker() -> bool:
    return bool(run(replay.TENDED, {"replay": Replay.objects.get().pk})[0][0])


def test_the_sweep_finds_one_whose_worker_died(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[nudges.Nudge] = []
    monkeypatch.setattr(nudges, "send", sent.extend)
    started(balances, clerk)
    nudge = replay.nudge_for(balances)
    assert nudge in sent
    for wanted, act in ((False, replaying.pause), (True, replaying.resume)):
        act(balances, who=clerk)
        sent.clear()
        sweeping.sweep()
        assert (nudge in sent) is wanted
    worked(balances)
    sent.clear()
    sweeping.sweep()
    assert nudge not in sent


def test_a_replay_that_a_command_runs_is_not_for_workers(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    started(balances, clerk, by_workers=False)
    assert replay.unfinished() == []
    assert not work_on(balances, budget=60)


def test_events_that_can_not_be_projected_end_it_with_the_reason(balances: ProjectionSubscription, clerk: User) -> None:
    account = opens_account()
    pays_in(account, POISON)
    settle()
    started(balances, clerk)
    failed = worked(balances)
    assert failed.state == "failed"
    assert "couldn't be projected" in failed.error
    assert not exists(shadow_of(balances))


def test_a_mistake_of_ours_ends_it_instead_of_being_repeated_for_ever(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(shadow: object) -> None:
        raise ZeroDivisionError("Ours.")

    monkeypatch.setattr(replay, "compare", mistaken)
    started(balances, clerk)
    with pytest.raises(ZeroDivisionError):
        worked(balances)
    failed = Replay.objects.get()
    assert (failed.state, failed.error) == ("failed", "ZeroDivisionError: Ours.")
    assert not work_on(balances, budget=60)


def test_one_that_other_code_began_is_given_up(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(balances, clerk)
    assert work_on(balances, budget=0)
    monkeypatch.setattr(balances, "version", balances.version + 1)
    given_up = worked(balances)
    assert (given_up.state, given_up.error) == ("cancelled", "Its code or its table has changed since it began.")


def test_what_was_compared_by_other_code_is_not_exchanged(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(balances, clerk)
    worked(balances)
    monkeypatch.setattr(balances, "version", balances.version + 1)
    with pytest.raises(NoReplay, match="has changed since it began"):
        replaying.exchange(balances, who=clerk)
    assert Replay.objects.get().state == "cancelled"
    assert amounts() == [0] * 5


def test_only_what_is_compared_can_be_exchanged(
    balances: ProjectionSubscription, accounts: list[UUID], clerk: User
) -> None:
    with pytest.raises(NoReplay, match="that is compared"):
        replaying.exchange(balances, who=clerk)
    started(balances, clerk)
    with pytest.raises(NoReplay):
        replaying.exchange(balances, who=clerk)
    worked(balances)
    replaying.exchange(balances, who=clerk)
    with pytest.raises(NoReplay):
        replaying.exchange(balances, who=clerk)


def test_who_did_what_is_written_down(balances: ProjectionSubscription, accounts: list[UUID], clerk: User) -> None:
    started(balances, clerk, with_failures=True)
    for act in (replaying.pause, replaying.resume):
        act(balances, who=clerk)
    worked(balances)
    replaying.exchange(balances, who=clerk)
    worked(balances)
    replaying.roll_back(balances, who=clerk)
    started(balances, clerk)
    replaying.cancel(balances, who=clerk)
    assert {entry.user for entry in LogEntry.objects.all()} == {clerk}
    assert [audit.told(entry) for entry in LogEntry.objects.order_by("pk")] == [
        {"act": "started a replay", "projection": balances.name, "with_failures": True},
        {"act": "paused a replay", "projection": balances.name},
        {"act": "resumed a replay", "projection": balances.name},
        {"act": "exchanged", "projection": balances.name, "different": 5},
        {"act": "rolled back a replay", "projection": balances.name},
        {"act": "started a replay", "projection": balances.name},
        {"act": "cancelled a replay", "projection": balances.name},
    ]


def test_readers_who_stay_in_the_way_of_going_back_are_told_of(
    balances: ProjectionSubscription,
    accounts: list[UUID],
    clerk: User,
    monkeypatch: pytest.MonkeyPatch,
    other_session: Any,
) -> None:
    started(balances, clerk)
    worked(balances)
    replaying.exchange(balances, who=clerk)
    worked(balances)
    monkeypatch.setattr(replaying, "PATIENCE", 0.1)
    with other_session.transaction():
        other_session.execute("SELECT count(*) FROM bank_balance")
        with pytest.raises(Busy, match="are in the way"):
            replaying.roll_back(balances, who=clerk)
    assert amounts() == [11] * 5
    assert not LogEntry.objects.filter(change_message__contains="rolled back").exists()
