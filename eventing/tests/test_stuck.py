from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from eventing import checkpoints, resuming, store, stuck
from eventing.domain import Command
from eventing.models import Checkpoint, Delivery, OutboxEntry, SagaInstance, StoredEvent, Timer
from eventing.resuming import find, saga_named
from eventing.sagas import SagaSubscription
from eventing.stuck import Act, Why, why_unfinished
from eventing.subscriptions import subscription_named
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.bank.sagas import Welcome
from eventing.tests.test_sagas import reacted, reminded

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def welcome() -> SagaSubscription:
    return saga_named("eventing.Welcome")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sagas can't take in payments."""
    react = Welcome.react

    def failing(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, MoneyPaidIn):
            raise ValueError("Not now, Ada.")
        return react(self, event)

    monkeypatch.setattr(Welcome, "react", failing)


def why(account: UUID) -> Why:
    return why_unfinished(find(account))


def stuck_ones() -> set[UUID]:
    return {saga.key for saga in stuck.stuck()}


def an_hour_passes() -> None:
    SagaInstance.objects.update(deadline_at=F("deadline_at") - timedelta(days=1, hours=1))


def test_a_saga_that_has_ended_needs_nothing(welcome: SagaSubscription) -> None:
    account = opens_account()
    pays_in(account, 10)
    reacted(welcome)
    assert why(account).act is Act.NOTHING
    assert why(account).sentence.startswith("It ended COMPLETED ")
    an_hour_passes()
    assert stuck_ones() == set()


def test_a_saga_that_waits_says_for_what(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    assert why(account).act is Act.WAIT
    assert why(account).sentence.startswith("It asked for eventing.PayIn 0 s ago, and waits for what comes of that. ")
    assert why(account).sentence.endswith("Its deadline is in 23 hours, 59 minutes.")
    assert stuck_ones() == set()


def test_a_saga_past_its_deadline_can_be_resumed(welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch) -> None:
    late, in_time = opens_account(), opens_account()
    reacted(welcome)
    an_hour_passes()
    SagaInstance.objects.filter(key=in_time).update(deadline_at=timezone.now() + timedelta(days=1))
    assert stuck_ones() == {late}
    assert why(late).act is Act.RESUME
    assert why(late).sentence.startswith("It missed its deadline 1 hour ago. It asked for eventing.PayIn")
    monkeypatch.setattr(welcome, "can_resume", False)
    assert why(late).act is Act.SEE_TO_IT


def test_a_saga_that_failed_says_why(welcome: SagaSubscription) -> None:
    account = opens_account()
    closes_account(account)
    reacted(welcome)
    assert stuck_ones() == {account}
    assert why(account) == Why(
        sentence="It failed 0 s ago, and waits for a person: The account was closed.", act=Act.RESUME
    )


@pytest.mark.usefixtures("poisoned")
def test_a_letter_of_its_own_keeps_a_saga_from_going_on(welcome: SagaSubscription) -> None:
    account, other = opens_account(), opens_account()
    reacted(welcome)
    letter = Delivery.objects.get(subscription=welcome.name, sequence=str(account))
    Delivery.objects.filter(pk=letter.pk).update(due_at=timezone.now() + timedelta(minutes=5, seconds=1))
    assert why(account) == Why(
        sentence=f"It can't go on: bank.money_paid_in at position {letter.position} failed with ValueError, once, "
        "and is tried again in 5 minutes.",
        act=Act.WAIT,
        letter=letter.pk,
        subscription=welcome.name,
    )
    assert stuck_ones() == set()
    Delivery.objects.filter(pk=letter.pk).update(state="dead", attempts=8)
    assert why(account).act is Act.RETRY
    assert why(account).sentence.endswith("failed with ValueError, 8 times, and isn't tried any more.")
    assert stuck_ones() == {account}
    assert other not in stuck_ones()


@pytest.mark.usefixtures("poisoned")
def test_nothing_that_an_error_says_is_told(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    assert "Ada" not in why(account).sentence


def test_a_pause_is_told_before_anything_else_that_may_come_of_it(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    checkpoints.pause(welcome)
    pays_in(account, 1)
    everything_is_relayed()
    assert why(account) == Why(
        sentence="eventing.Welcome is paused, 1 event behind the log.", act=Act.UNPAUSE, subscription=welcome.name
    )


def test_workers_that_stand_still_are_told(welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch) -> None:
    account = opens_account()
    reacted(welcome)
    pays_in(account, 1)
    everything_is_relayed()
    Checkpoint.objects.update(moved_at=timezone.now() - timedelta(minutes=3))
    assert why(account).act is Act.WAIT
    monkeypatch.setattr(stuck, "SLOW", timedelta(0))
    assert why(account) == Why(
        sentence="eventing.Welcome is 1 event behind the log, and last moved 3 minutes ago.",
        act=Act.SEE_TO_WORKERS,
        subscription=welcome.name,
    )


def test_workers_that_had_nothing_to_do_for_a_while_dont_stand_still(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    Checkpoint.objects.update(moved_at=timezone.now() - timedelta(hours=1))
    pays_in(account, 1)
    everything_is_relayed()
    assert why(account).act is Act.WAIT


def test_a_reminder_that_fails_again_and_again_needs_a_person(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    Timer.objects.update(attempts=Timer.FAILING, error="ValueError", due_at=timezone.now() + timedelta(minutes=1))
    assert stuck_ones() == {account}
    assert why(account).sentence.startswith(
        "Its reminder of deadline failed with ValueError, 3 times, and is tried again in 59 s"
    )
    assert why(account).act is Act.RESUME
    resuming.resume(find(account), who=User.objects.create_user("clerk"))
    assert Timer.objects.get(about="deadline").attempts == 0
    assert reminded(welcome) == 2  # of the deadline, and of the wish
    assert store.load(Account, account).closed


def test_a_relay_that_stands_still_is_told(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    pays_in(account, 1)
    OutboxEntry.objects.update(created_at=timezone.now() - timedelta(minutes=3))
    assert why(account).sentence == (
        "The relay stands still: the oldest event in the outbox was recorded 3 minutes ago."
    )


def letter_of(name: str, account: UUID, **columns: Any) -> Delivery:
    """Somebody has yet to handle, or failed at, what came of the first step of an account's saga."""
    event = StoredEvent.objects.get(type="bank.money_paid_in", stream_id=str(account))
    position = event.log.position
    return Delivery.objects.create(
        subscription=name, partition=0, sequence="another", event=event, position=position, **columns
    )


def test_what_others_have_yet_to_do_about_its_commands_is_told(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    Checkpoint.objects.update(position=checkpoints.head())
    charge = subscription_named("payments.charge")
    letter = letter_of(charge.name, account)
    assert why(account).sentence == "It waits for payments.charge, which was asked 0 s ago."
    Delivery.objects.filter(pk=letter.pk).update(state="dead", attempts=8, error="OutcomeUnknown: Silence.")
    assert why(account) == Why(
        sentence="payments.charge, which it waits for, fails: bank.money_paid_in at position 2 failed with "
        "OutcomeUnknown, 8 times, and isn't tried any more.",
        act=Act.RETRY,
        letter=letter.pk,
        subscription=charge.name,
    )


def test_nobody_waits_for_a_read_model(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    letter_of("eventing.Balances", account, state="dead", attempts=8, error="ValueError: No.")
    assert why(account).sentence.startswith("It asked for eventing.PayIn")


def test_a_letter_whose_sequence_is_no_key_is_nobodys(welcome: SagaSubscription) -> None:
    account = opens_account()
    closes_account(account)
    reacted(welcome)
    unseen = opens_account()
    pays_in(unseen, 1)
    everything_is_relayed()
    letter_of(welcome.name, unseen, state="dead", error="ValueError: No.")
    assert stuck_ones() == {account}
