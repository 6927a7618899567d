from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventing import context, store
from eventing.advance import advance, read, retry_due
from eventing.domain import Command
from eventing.models import Checkpoint, Delivery, StoredEvent
from eventing.policies import PolicySubscription
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import CloseAccount, PayIn
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.events import AccountClosed, AccountOpened, MoneyPaidIn

pytestmark = pytest.mark.django_db(transaction=True)


def thank(event: AccountOpened | MoneyPaidIn) -> Iterator[Command]:
    """Pay in a penny for each deposit of a pound, and nothing for a penny."""
    match event:
        case MoneyPaidIn(amount=100):
            yield PayIn(account_id=event.account_id, amount=1)
        case MoneyPaidIn(amount=13):
            yield CloseAccount(account_id=event.account_id)
            yield PayIn(account_id=event.account_id, amount=1)  # refused: it's closed
        case _:
            pass


@pytest.fixture
def policy() -> PolicySubscription:
    subscription = PolicySubscription(thank, partitions=1)
    Checkpoint.objects.create(subscription=subscription.name, partition=0)
    return subscription


def followed(policy: PolicySubscription) -> None:
    everything_is_relayed()
    while advance(policy, 0):
        everything_is_relayed()


def test_a_policy_answers_each_event_with_commands_that_name_it_as_their_cause(policy: PolicySubscription) -> None:
    account = opens_account()
    pays_in(account, 100)
    pays_in(account, 100)
    followed(policy)
    assert store.load(Account, account).balance == 202
    deposits = StoredEvent.objects.filter(type="bank.money_paid_in").order_by("version")
    by_people, by_policy = deposits.filter(data__amount=100), deposits.filter(data__amount=1)
    assert [event.causation_id for event in by_policy] == [event.id for event in by_people]
    assert [event.correlation_id for event in by_policy] == [event.correlation_id for event in by_people]
    assert {event.actor for event in by_policy} == {"eventing.thank"}


def test_what_a_policy_asks_for_and_its_checkpoint_commit_together(
    policy: PolicySubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opens_account()
    pays_in(account, 100)
    everything_is_relayed()

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("eventing.advance._move", dies)
        with pytest.raises(KeyboardInterrupt):
            advance(policy, 0)
    assert store.load(Account, account).balance == 100
    Checkpoint.objects.filter(subscription=policy.name).update(begun_at=None)
    followed(policy)
    assert store.load(Account, account).balance == 101


def test_a_refusal_parks_the_event_with_nothing_done_and_others_go_on(policy: PolicySubscription) -> None:
    unlucky, lucky = opens_account(), opens_account()
    pays_in(unlucky, 13)
    pays_in(unlucky, 100)
    pays_in(lucky, 100)
    followed(policy)
    assert store.load(Account, lucky).balance == 101
    assert store.load(Account, unlucky).balance == 113
    assert not StoredEvent.objects.filter(type=AccountClosed.stored_name).exists()
    parked, behind = Delivery.objects.filter(subscription=policy.name).order_by("position")
    assert parked.error.startswith("Rejected: ")
    assert (behind.state, behind.attempts) == ("waiting", 0)


def test_a_projection_has_no_way_to_follow_a_policy(policy: PolicySubscription) -> None:
    account = opens_account()
    pays_in(account, 100)
    everything_is_relayed()
    records = read(policy, 0, after=0, until=2, limit=10)
    with context.only_looking("A replay"), pytest.raises(context.NotAllowed, match="follow a policy"):
        policy.handle(records, 0)
    assert not retry_due(policy, 0)
