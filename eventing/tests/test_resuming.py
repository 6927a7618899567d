from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from eventing import audit, resuming, store
from eventing.advance import remind_due, retry_due
from eventing.domain import Command
from eventing.models import Delivery, SagaInstance, Timer
from eventing.resuming import NotResumable, Resumption, UnknownSaga, find, plan, resume
from eventing.sagas import SagaSubscription
from eventing.subscriptions import UnknownSubscription
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.events import MoneyPaidIn
from eventing.tests.bank.sagas import BONUS, Welcome
from eventing.tests.conftest import InThreads
from eventing.tests.test_sagas import history, reacted, reminded

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def welcome() -> SagaSubscription:
    return resuming.saga_named("eventing.Welcome")


@pytest.fixture
def clerk() -> User:
    return User.objects.create_user("clerk")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Until it's undone, sagas can't take in payments."""
    react = Welcome.react

    def failing(self: Welcome, event: Any) -> Iterator[Command]:
        if isinstance(event, MoneyPaidIn):
            raise ValueError("Not now.")
        return react(self, event)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Welcome, "react", failing)
        yield patched


def worked(saga: SagaSubscription) -> None:
    """Do all that its workers would do."""
    busy = True
    while busy:
        reacted(saga)
        busy = any(retry_due(saga, partition) or remind_due(saga, partition) for partition in range(saga.partitions))


def abouts(account: UUID) -> list[str]:
    return [step.about or step.type for step in history(account)]


def test_a_failed_saga_reacts_to_being_resumed(welcome: SagaSubscription, clerk: User) -> None:
    account = opens_account()
    closes_account(account)
    worked(welcome)
    assert find(account).failed
    assert resume(find(account), who=clerk) == Resumption(letters=0, hears=True)
    worked(welcome)
    last = history(account)[-1]
    assert (last.about, last.commands[0]["name"]) == ("resumed", "eventing.PayIn")
    assert not Timer.objects.exists()


def test_it_comes_after_all_that_the_saga_has_not_seen(welcome: SagaSubscription, clerk: User) -> None:
    account = opens_account()
    reacted(welcome)
    resume(find(account), who=clerk)
    pays_in(account, 1)
    everything_is_relayed()
    assert reminded(welcome) == 0
    worked(welcome)
    assert abouts(account)[-2:] == ["bank.money_paid_in", "resumed"]


def test_a_saga_that_ended_well_has_nothing_to_resume(welcome: SagaSubscription, clerk: User) -> None:
    account = opens_account()
    pays_in(account, 10)
    worked(welcome)
    before = history(account)
    with pytest.raises(NotResumable, match="has ended COMPLETED: there is nothing to resume"):
        resume(find(account), who=clerk)
    worked(welcome)
    assert history(account) == before
    assert not LogEntry.objects.exists()


def test_one_that_ends_well_before_it_hears_of_the_wish_does_nothing_about_it(
    welcome: SagaSubscription, clerk: User
) -> None:
    account = opens_account()
    reacted(welcome)
    resume(find(account), who=clerk)
    pays_in(account, 10)
    worked(welcome)
    last = history(account)[-1]
    assert (last.about, last.commands, last.late, last.state) == ("resumed", [], True, "COMPLETED")


def test_a_wish_is_not_lost_when_the_saga_ends_before_it_hears_of_it(welcome: SagaSubscription, clerk: User) -> None:
    account = opens_account()
    reacted(welcome)
    resume(find(account), who=clerk)
    closes_account(account)
    worked(welcome)
    assert abouts(account)[-2:] == ["bank.account_closed", "resumed"]


def test_letters_of_its_own_sequence_are_tried_again_first(
    welcome: SagaSubscription, clerk: User, failing: pytest.MonkeyPatch
) -> None:
    ada, bob = opens_account("Ada"), opens_account("Bob")
    worked(welcome)
    Delivery.objects.update(state="dead", attempts=8)
    failing.undo()
    assert plan(find(ada)) == Resumption(letters=1, hears=True)
    assert resume(find(ada), who=clerk) == Resumption(letters=1, hears=True)
    worked(welcome)
    assert abouts(ada) == ["bank.account_opened", "bank.money_paid_in", "resumed"]
    assert abouts(bob) == ["bank.account_opened"]


def test_of_a_saga_that_would_not_hear_of_it_only_letters_are_tried_again(
    welcome: SagaSubscription, clerk: User, failing: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(welcome, "can_resume", False)
    stuck = opens_account()
    worked(welcome)
    assert resume(find(stuck), who=clerk) == Resumption(letters=1, hears=False)
    failing.undo()
    worked(welcome)
    assert "resumed" not in abouts(stuck)
    with pytest.raises(NotResumable, match="doesn't consume `Resumed`"):
        resume(find(stuck), who=clerk)
    assert LogEntry.objects.count() == 1


def test_who_resumed_what_is_written_down(welcome: SagaSubscription, clerk: User) -> None:
    account = opens_account()
    reacted(welcome)
    resume(find(account), who=clerk)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.get_edited_object()) == (clerk, find(account))
    assert audit.told(entry) == {"act": "resumed", "state": "WAITING", "letters": 0}


def test_nothing_is_written_down_that_was_not_done(
    welcome: SagaSubscription, clerk: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    monkeypatch.setattr("eventing.resuming.RESUME", "SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        resume(find(account), who=clerk)
    assert not LogEntry.objects.exists()


def test_two_who_resume_at_once_are_both_written_down_and_heard_of_once_or_twice(
    welcome: SagaSubscription, clerk: User, in_threads: InThreads
) -> None:
    account = opens_account()
    closes_account(account)
    worked(welcome)
    boss = User.objects.create_user("boss")
    in_threads(
        lambda: resume(find(account), who=clerk), lambda: resume(find(account), who=boss), lambda: worked(welcome)
    )
    worked(welcome)
    assert LogEntry.objects.count() == 2
    assert abouts(account).count("resumed") in (1, 2)
    assert not Timer.objects.exists()


def test_a_saga_is_resumed_while_its_events_arrive(
    welcome: SagaSubscription, clerk: User, in_threads: InThreads
) -> None:
    accounts = [opens_account() for _ in range(4)]
    worked(welcome)

    def pay() -> None:
        for account in accounts * 3:
            pays_in(account, 0)

    def ask() -> None:
        for account in accounts * 3:
            resume(find(account), who=clerk)

    in_threads(pay, ask, lambda: worked(welcome), lambda: worked(welcome))
    Timer.objects.filter(about="resumed").update(due_at=timezone.now())  # one that came too early waits a moment
    worked(welcome)
    for account in accounts:
        numbers = [step.number for step in history(account)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert abouts(account).count("bank.money_paid_in") == 4
        assert 1 <= abouts(account).count("resumed") <= 3
        assert store.load(Account, account).balance == BONUS
    assert not Timer.objects.filter(about="resumed").exists()
    assert not Delivery.objects.filter(subscription=welcome.name).exists()


def test_a_saga_is_found_by_its_key(welcome: SagaSubscription) -> None:
    account = opens_account()
    reacted(welcome)
    assert find(account) == find(account, "eventing.Welcome") == SagaInstance.objects.get()
    with pytest.raises(UnknownSaga, match="There is no saga with the key"):
        find(uuid4())
    with pytest.raises(UnknownSubscription, match="is no saga but of the kind effect"):
        resuming.saga_named("eventing.farewell")


def test_of_several_sagas_with_one_key_one_has_to_be_named(
    welcome: SagaSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    reacted(welcome)
    other = SagaInstance.objects.create(saga="orders.OrderFulfilment", key=account, state="STARTED", memory={})
    with pytest.raises(UnknownSaga, match=r"say which of eventing\.Welcome, orders\.OrderFulfilment"):
        find(account)
    assert find(account, other.saga) == other


def test_partitions_are_told_as_the_database_tells_them(welcome: SagaSubscription) -> None:
    for _ in range(8):
        account = opens_account()
        reacted(welcome)
        assert welcome.partition_of(str(account)) == Timer.objects.get(key=account).partition
