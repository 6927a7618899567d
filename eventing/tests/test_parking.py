"""Events that failed: their sequence waits in order, others flow, and nothing is given up without a person."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.utils import timezone
from pytest_django import Settings

from eventing import deliveries, records
from eventing.advance import advance, retry_due
from eventing.deliveries import back_off, failed, retry, skip, waiting_behind
from eventing.models import Checkpoint, Delivery
from eventing.projections import Projection
from eventing.records import Record
from eventing.subscriptions import Subscription, subscription_named
from eventing.tests.bank import projections
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.bank.models import Balance
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import InThreads
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def balances() -> Subscription:
    return subscription_named("eventing.Balances")


@pytest.fixture
def poisoned(balances: Subscription) -> UUID:
    """An account of 1, whose next payment can't be digested, with two behind it."""
    account = opens_account("Ada")
    pays_in(account, 1, POISON, 2, 3)
    everything_is_relayed()
    caught_up(balances)
    return account


def caught_up(subscription: Subscription) -> None:
    while advance(subscription, 0):
        pass


def retried(subscription: Subscription) -> int:
    times = 0
    while retry_due(subscription, 0):
        times += 1
    return times


def letter() -> Delivery:
    """The one that failed."""
    return failed().get()


def cured() -> None:
    projections.poisoned = False


def test_a_failed_event_is_parked_with_its_error_and_those_behind_it_wait(poisoned: UUID) -> None:
    assert (letter().position, letter().state, letter().attempts) == (3, "waiting", 1)
    assert letter().error == "ValueError: I can't digest this."
    assert "in apply" in letter().traceback
    assert letter().sequence == str(poisoned)
    assert waiting_behind(letter()) == 2
    assert Balance.objects.get().amount == 1


def test_other_sequences_flow(poisoned: UUID, balances: Subscription) -> None:
    other = opens_account("Bob")
    pays_in(other, 7)
    pays_in(poisoned, 4)
    everything_is_relayed()
    caught_up(balances)
    assert Balance.objects.get(owner="Bob").amount == 7
    assert waiting_behind(letter()) == 3


def test_once_cured_the_sequence_goes_on_in_its_order(
    poisoned: UUID, balances: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    cured()
    handled: list[int] = []
    project = Projection.project

    def noting(self: Projection[Balance], records: Sequence[Record]) -> None:
        handled.extend(record.version for record in records)
        project(self, records)

    monkeypatch.setattr(Projection, "project", noting)
    assert retried(balances) == 3
    assert handled == [3, 4, 5]
    assert Balance.objects.get().amount == 1 + POISON + 2 + 3
    assert {each.state for each in Delivery.objects.all()} == {"done"}
    pays_in(poisoned, 4)
    everything_is_relayed()
    caught_up(balances)
    assert handled == [3, 4, 5, 6]


def test_an_attempt_is_counted_for_all_to_see_before_it_is_made(
    poisoned: UUID,
    balances: Subscription,
    other_session: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[Any] = []
    project = Projection.project

    def noting(self: Projection[Balance], records: Sequence[Record]) -> None:
        counted.append(other_session.execute("SELECT max(attempts) FROM eventing_delivery").fetchone())
        project(self, records)

    monkeypatch.setattr(Projection, "project", noting)
    retry_due(balances, 0)
    retry_due(balances, 0)
    assert counted == [(2,), (3,)]


def test_after_the_last_attempt_a_letter_is_dead_and_nothing_behind_it_moves(
    poisoned: UUID, balances: Subscription
) -> None:
    assert retried(balances) == balances.attempts - 1
    assert (letter().state, letter().attempts) == ("dead", balances.attempts)
    assert not retry_due(balances, 0)
    assert Balance.objects.get().amount == 1
    assert waiting_behind(letter()) == 2


def test_an_attempt_that_never_ended_counts_too(poisoned: UUID, balances: Subscription) -> None:
    Delivery.objects.filter(pk=letter().pk).update(attempts=balances.attempts)
    cured()
    assert not retry_due(balances, 0)
    assert letter().state == "dead"
    assert "never ended" in letter().error


def test_a_dead_letter_is_tried_again_with_all_its_attempts(poisoned: UUID, balances: Subscription) -> None:
    retried(balances)
    cured()
    assert retry(failed()) == 1
    retried(balances)
    assert Balance.objects.get().amount == 1 + POISON + 2 + 3
    assert not failed().exists()


def test_a_skipped_letter_keeps_its_reason_and_lets_the_next_go_on(poisoned: UUID, balances: Subscription) -> None:
    dead = letter()
    assert skip(failed(), reason="A test payment.") == 1
    retried(balances)
    assert Balance.objects.get().amount == 1 + 2 + 3
    dead.refresh_from_db()
    assert (dead.state, dead.reason) == ("skipped", "A test payment.")
    assert dead.finished_at is not None
    assert skip(Delivery.objects.filter(pk=dead.pk), reason="Again.") == 0


def test_a_letter_that_isnt_due_waits(poisoned: UUID, balances: Subscription) -> None:
    Delivery.objects.update(due_at=timezone.now() + timedelta(hours=1))
    cured()
    assert not retry_due(balances, 0)
    assert Balance.objects.get().amount == 1


def test_a_paused_subscription_retries_nothing(poisoned: UUID, balances: Subscription) -> None:
    cured()
    Checkpoint.objects.filter(subscription=balances.name).update(state="paused")
    assert not retry_due(balances, 0)


def test_the_pause_between_attempts_doubles_up_to_a_cap_and_varies(settings: Settings) -> None:
    settings.EVENTING = {"BACKOFF_SECONDS": 1.0, "BACKOFF_CAP_SECONDS": 60.0}
    for attempt, most in ((1, 2), (3, 8), (10, 60), (10_000, 60)):
        pauses = [back_off(attempt).total_seconds() for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most / 2 < max(pauses) <= most


def test_a_retry_waits_for_the_batch_that_is_under_way(
    poisoned: UUID,
    balances: Subscription,
    in_threads: InThreads,
    other_session: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cured()
    pays_in(opens_account("Bob"), 7)
    everything_is_relayed()
    Checkpoint.objects.update(careful_until=0)
    under_way, project = threading.Event(), Projection.project

    def slowly(self: Projection[Balance], records: Sequence[Record]) -> None:
        if not under_way.is_set():
            under_way.set()
            assert eventually(
                lambda: other_session.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ).fetchone()
            )
        project(self, records)

    monkeypatch.setattr(Projection, "project", slowly)
    in_threads(lambda: advance(balances, 0), lambda: under_way.wait() and retry_due(balances, 0))
    assert {each.owner: each.amount for each in Balance.objects.all()} == {"Ada": 1 + POISON, "Bob": 7}


def test_what_two_workers_retry_and_advance_at_once_keeps_its_order(
    balances: Subscription, in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [opens_account(str(number)) for number in range(4)]
    handled: list[tuple[str, int]] = []
    failing, lock = set(range(3, 60, 7)), threading.Lock()
    project = Projection.project

    def failing_now_and_then(self: Projection[Balance], records: Sequence[Record]) -> None:
        for record in records:
            with lock:
                if record.version in failing:
                    failing.discard(record.version)
                    raise ValueError("Not now.")
        project(self, records)
        handled.extend((record.key, record.version) for record in records)

    monkeypatch.setattr(Projection, "project", failing_now_and_then)
    done = threading.Event()

    def record() -> None:
        try:
            for amount in range(60):
                for account in accounts:
                    pays_in(account, amount)
                everything_is_relayed()
        finally:
            done.set()

    def settled() -> bool:
        return (
            done.is_set()
            and not Delivery.objects.filter(subscription=balances.name, state__in=Delivery.OPEN).exists()
            and Checkpoint.objects.get(subscription=balances.name).position == 4 * 61
        )

    def work() -> None:
        while not settled():
            advance(balances, 0)
            retry_due(balances, 0)

    in_threads(record, work, work, work)
    assert {each.payments for each in Balance.objects.all()} == {60}
    assert {each.version for each in Balance.objects.all()} == {61}
    for account in accounts:
        mine = [version for key, version in handled if key == str(account)]
        assert mine == list(range(1, 62))
    assert not failing
    assert Delivery.objects.filter(state="done").exists()


def test_a_letter_that_cant_be_read_dies_without_holding_up_others(poisoned: UUID, balances: Subscription) -> None:
    """A class whose fields changed in a way that old events don't fit."""
    other = opens_account("Bob")
    pays_in(other, POISON)
    everything_is_relayed()
    caught_up(balances)

    class Unreadable:
        type = MoneyPaidIn

        def decode(self, data: str) -> None:
            raise ValueError("unreadable")

    decoders = dict(records._decoders)
    records._decoders["bank.money_paid_in"] = Unreadable()  # type: ignore[assignment]
    try:
        retried(balances)
    finally:
        records._decoders.clear()
        records._decoders.update(decoders)
    assert {(each.state, each.error) for each in failed()} == {("dead", "ValueError: unreadable")}
    assert failed().count() == 2


def test_an_effects_letter_points_to_its_event(poisoned: UUID) -> None:
    assert letter().event.type == "bank.money_paid_in"
    assert deliveries.describe(ValueError("x" * 9999)).startswith("ValueError: xxx")
    assert len(deliveries.describe(ValueError("x" * 9999))) == 2000
