from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from eventing import deliveries, effects, store
from eventing.advance import advance
from eventing.checkpoints import pause, resume
from eventing.deliveries import claim, failed
from eventing.effects import EffectSubscription, Outcome, perform_due, record_outcomes
from eventing.handlers import dispatch
from eventing.models import Delivery
from eventing.resuming import saga_named
from eventing.sagas import SagaSubscription, instance
from eventing.subscriptions import subscription_named
from eventing.tests.bank import effects as bank
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, stream_of
from eventing.tests.bank.events import AccountClosed, AccountOpened
from eventing.tests.bank.sagas import Welcome
from eventing.tests.conftest import InThreads, Program
from eventing.tests.test_sagas import history, reacted, reminded
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

Post = Callable[[AccountClosed, effects.Delivery], PayIn | None]


@pytest.fixture
def farewell() -> EffectSubscription:
    found = subscription_named("eventing.farewell")
    assert isinstance(found, EffectSubscription)
    return found


@pytest.fixture
def ledger() -> UUID:
    """An open account, to which outcomes pay in."""
    return opens_account("Ledger")


def posted_by(post: Post) -> None:
    bank.post = post


def closed(count: int = 1) -> list[UUID]:
    """Accounts that were closed, whose events have become jobs."""
    accounts = [opens_account(str(number)) for number in range(count)]
    for account in accounts:
        closes_account(account)
    everything_is_relayed()
    while advance(subscription_named("eventing.farewell"), 0):
        pass
    return accounts


def test_each_event_becomes_one_job(farewell: EffectSubscription) -> None:
    accounts = closed(3)
    assert [(each.state, each.attempts, each.sequence) for each in Delivery.objects.order_by("position")] == [
        ("waiting", 0, f"account-{account}") for account in accounts
    ]
    assert not advance(farewell, 0)


def test_an_effect_is_performed_outside_of_any_transaction(farewell: EffectSubscription) -> None:
    inside: list[bool] = []
    posted_by(lambda event, delivery: inside.append(connection.in_atomic_block))
    closed(3)
    perform_due(farewell, budget=10)
    assert inside == [False, False, False]
    assert {each.state for each in Delivery.objects.all()} == {"done"}


def test_every_attempt_has_the_same_key_and_every_event_another(farewell: EffectSubscription) -> None:
    attempts: list[tuple[int, str]] = []

    def fail(event: AccountClosed, delivery: effects.Delivery) -> None:
        attempts.append((delivery.attempt, delivery.key))
        raise TimeoutError("No answer: the letter may be on its way or not.")

    posted_by(fail)
    first, second = closed(2)
    while perform_due(farewell, budget=10) or Delivery.objects.filter(state="waiting").exists():
        pass
    keys = {key for _, key in attempts}
    assert len(keys) == 2
    assert all(key.startswith("eventing.farewell:") for key in keys)
    for key in keys:
        assert [attempt for attempt, its_key in attempts if its_key == key] == [1, 2, 3]
    assert {(each.state, each.attempts, each.sequence) for each in failed()} == {
        ("dead", 3, f"account-{first}"),
        ("dead", 3, f"account-{second}"),
    }
    assert "TimeoutError: No answer" in failed()[0].error


def test_an_unknown_outcome_is_asked_for_again_and_recorded_once(farewell: EffectSubscription, ledger: UUID) -> None:
    def answer_at_last(event: AccountClosed, delivery: effects.Delivery) -> PayIn:
        if delivery.attempt < 3:
            raise TimeoutError
        return PayIn(account_id=ledger, amount=1)

    posted_by(answer_at_last)
    closed()
    while perform_due(farewell, budget=10) or Delivery.objects.filter(state="waiting").exists():
        pass
    assert store.load(Account, ledger).balance == 1
    assert Delivery.objects.get().state == "done"


def test_an_outcome_is_caused_by_its_event(farewell: EffectSubscription, ledger: UUID) -> None:
    posted_by(lambda event, delivery: PayIn(account_id=ledger, amount=1))
    (account,) = closed()
    perform_due(farewell, budget=10)
    cause = list(store.read(stream_of(account)))[-1]
    outcome = list(store.read(stream_of(ledger)))[-1]
    assert (outcome.causation_id, outcome.correlation_id) == (cause.id, cause.correlation_id)
    assert outcome.actor == "eventing.farewell"


def test_one_bad_outcome_spoils_no_other(farewell: EffectSubscription, ledger: UUID) -> None:
    accounts = closed(5)
    posted_by(
        lambda event, delivery: PayIn(
            account_id=event.account_id if event.account_id == accounts[2] else ledger, amount=1
        )
    )
    claims = claim(farewell, limit=10)
    assert len(claims) == 5
    record_outcomes(farewell, [Outcome(each, farewell.perform(each)) for each in claims])
    assert store.load(Account, ledger).balance == 4
    (letter,) = failed()
    assert (letter.sequence, letter.error) == (f"account-{accounts[2]}", "Rejected: This account isn't open.")


def test_an_outcome_is_recorded_once_though_two_workers_performed(
    farewell: EffectSubscription, ledger: UUID, in_threads: InThreads
) -> None:
    both, attempts = Barrier(2), []

    def slowly(event: AccountClosed, delivery: effects.Delivery) -> PayIn:
        attempts.append(delivery.attempt)
        both.wait(timeout=60)
        return PayIn(account_id=ledger, amount=1)

    posted_by(slowly)
    closed()

    def second() -> None:
        assert eventually(lambda: len(attempts) == 1)
        Delivery.objects.update(due_at=timezone.now())  # the first one's lease ends
        perform_due(farewell, budget=0)

    in_threads(lambda: perform_due(farewell, budget=0), second)
    assert attempts == [1, 2]
    assert store.load(Account, ledger).balance == 1
    assert Delivery.objects.get().state == "done"


@pytest.mark.parametrize("given_up", ["skipped", "dead"])
def test_what_was_done_out_there_is_recorded_though_the_job_was_given_up_meanwhile(
    farewell: EffectSubscription, ledger: UUID, given_up: str
) -> None:
    def paid_while_somebody_gives_up(event: AccountClosed, delivery: effects.Delivery) -> PayIn:
        Delivery.objects.update(state=given_up)
        return PayIn(account_id=ledger, amount=1)

    posted_by(paid_while_somebody_gives_up)
    closed()
    perform_due(farewell, budget=0)
    assert store.load(Account, ledger).balance == 1
    assert Delivery.objects.get().state == "done"


def test_nobody_takes_a_job_while_its_lease_lasts(farewell: EffectSubscription) -> None:
    closed()
    assert len(claim(farewell)) == 1
    assert claim(farewell) == []
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert [each.attempt for each in claim(farewell)] == [2]


def test_a_job_whose_worker_is_killed_comes_again_after_the_lease(
    farewell: EffectSubscription, program: Program
) -> None:
    closed()
    worker = program("eventing.tests.bank", "post_slowly", EVENTING_LEASE_SECONDS="1")
    assert worker.stdout
    assert worker.stdout.readline() == "posting\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    attempts: list[int] = []
    posted_by(lambda event, delivery: attempts.append(delivery.attempt))
    assert eventually(lambda: perform_due(farewell, budget=0) or attempts)
    assert attempts == [2]


def test_a_paused_effect_stands_still(farewell: EffectSubscription) -> None:
    attempts: list[int] = []
    posted_by(lambda event, delivery: attempts.append(delivery.attempt))
    closed(3)
    pause(farewell)
    assert not perform_due(farewell, budget=10)
    assert attempts == []
    resume(farewell)
    perform_due(farewell, budget=10)
    assert attempts == [1, 1, 1]


def test_jobs_of_one_stream_are_performed_in_order(farewell: EffectSubscription) -> None:
    (account,) = closed()
    store.append(stream_of(account), [AccountClosed(account_id=account)] * 2, expected=2)
    everything_is_relayed()
    while advance(farewell, 0):
        pass
    assert len(claim(farewell, limit=10)) == 1
    Delivery.objects.update(due_at=timezone.now(), attempts=0)
    versions: list[int] = []
    posted_by(lambda event, delivery: versions.append(delivery.record.version))
    while perform_due(farewell, budget=10) or Delivery.objects.filter(state="waiting").exists():
        pass
    assert versions == [2, 3, 4]


def test_a_slow_job_keeps_no_other_waiting_in_its_worker(
    farewell: EffectSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    take = deliveries.claim

    def noting(*args: Any, **options: Any) -> list[deliveries.Claim]:
        sizes.append(options["limit"])
        return take(*args, **options)

    monkeypatch.setattr(deliveries, "claim", noting)
    monkeypatch.setattr(effects, "CHUNK_SECONDS", 1000)
    closed(60)
    perform_due(farewell, budget=30)
    assert max(sizes) == effects.MOST_AT_ONCE
    sizes.clear()
    monkeypatch.setattr(effects, "CHUNK_SECONDS", 0)
    closed(5)
    perform_due(farewell, budget=30)
    assert set(sizes) == {1}


def test_an_effect_without_events_of_its_own_does_nothing(farewell: EffectSubscription) -> None:
    opens_account()
    everything_is_relayed()
    while advance(farewell, 0):
        pass
    assert not perform_due(farewell, budget=1)
    assert not Delivery.objects.exists()
    assert AccountOpened not in farewell.events


def test_an_outcome_that_somebody_overtakes_is_recorded_without_asking_again(
    farewell: EffectSubscription, ledger: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    performed: list[UUID] = []

    def post(event: AccountClosed, delivery: effects.Delivery) -> PayIn:
        performed.append(event.account_id)
        return PayIn(account_id=ledger, amount=3)

    def somebody_else_pays_in() -> None:
        dispatch(PayIn(account_id=ledger, amount=1))
        connection.close()

    write, overtakings = store._write, [Thread(target=somebody_else_pays_in)]

    def write_when_overtaken(pending: Sequence[store.Pending]) -> None:
        while overtakings:
            overtaking = overtakings.pop()
            overtaking.start()
            overtaking.join()
        write(pending)

    posted_by(post)
    (account,) = closed()
    monkeypatch.setattr(store, "_write", write_when_overtaken)
    perform_due(farewell, budget=10)

    assert performed == [account]
    assert Delivery.objects.get().state == "done"
    assert store.load(Account, ledger).balance == 4


@pytest.fixture
def welcome() -> SagaSubscription:
    return saga_named("eventing.Welcome")


def failing(event: AccountClosed, delivery: effects.Delivery) -> None:
    raise TimeoutError("No answer.")


def worn_out(farewell: EffectSubscription) -> None:
    """Let the effect do what it can until there's nothing left to try."""
    while perform_due(farewell, budget=10) or Delivery.objects.filter(state="waiting").exists():
        pass


def given_up_to(account: UUID) -> list[int]:
    found = instance(Welcome, account)
    assert found is not None
    return list(found.memory["given_up"])


def test_the_saga_that_shares_the_event_hears_that_it_was_given_up(
    farewell: EffectSubscription, welcome: SagaSubscription
) -> None:
    posted_by(failing)
    (account,) = closed()
    reacted(welcome)
    other = opens_account()
    reacted(welcome)
    worn_out(farewell)
    letter = Delivery.objects.get()
    assert reminded(welcome) == 1
    assert (given_up_to(account), given_up_to(other)) == ([letter.pk], [])
    assert history(account)[-1].about == f"given up: letter {letter.pk}"
    assert reminded(welcome) == 0


def test_of_a_job_that_is_tried_again_before_it_heard_the_saga_hears_nothing(
    farewell: EffectSubscription, welcome: SagaSubscription
) -> None:
    posted_by(failing)
    (account,) = closed()
    reacted(welcome)
    worn_out(farewell)
    deliveries.retry(failed())
    assert reminded(welcome) == 1
    assert given_up_to(account) == []


def test_a_saga_that_ends_before_it_heard_hears_it_all_the_same(
    farewell: EffectSubscription, welcome: SagaSubscription
) -> None:
    posted_by(failing)
    account = opens_account()
    reacted(welcome)
    closes_account(account)
    everything_is_relayed()
    advance(farewell, 0)
    worn_out(farewell)
    reacted(welcome)  # that it was closed, with which it ends
    assert reminded(welcome) == 1
    assert given_up_to(account) == [Delivery.objects.get().pk]
    assert history(account)[-1].late


def test_a_job_that_is_given_up_twice_is_heard_of_twice(
    farewell: EffectSubscription, welcome: SagaSubscription
) -> None:
    posted_by(failing)
    (account,) = closed()
    reacted(welcome)
    for _ in range(2):
        worn_out(farewell)
        reminded(welcome)
        deliveries.retry(failed())
    assert given_up_to(account) == [Delivery.objects.get().pk] * 2


def test_a_job_whose_worker_was_killed_too_often_is_given_up_too(
    farewell: EffectSubscription, welcome: SagaSubscription
) -> None:
    (account,) = closed()
    reacted(welcome)
    Delivery.objects.update(attempts=3)
    assert claim(farewell) == []
    assert reminded(welcome) == 1
    assert given_up_to(account) == [Delivery.objects.get().pk]


def test_nobody_waits_for_an_effect_that_has_no_outcome(welcome: SagaSubscription) -> None:
    found = subscription_named("orders.tell_buyer")
    assert isinstance(found, EffectSubscription)
    assert not found.has_outcome
