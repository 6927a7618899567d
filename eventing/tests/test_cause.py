"""Correlation, causation, actor and trace: carried through everything, though no domain code mentions them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from eventing import context, store
from eventing.context import Cause, acting, because_of
from eventing.handlers import dispatch_all
from eventing.records import Record
from eventing.testing import settle
from eventing.tests.bank import effects
from eventing.tests.bank.commands import OpenAccount, PayIn
from eventing.tests.bank.customers import closes_account, opens_account, stream_of

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def records(account: UUID) -> list[Record]:
    return list(store.read(stream_of(account)))


@pytest.mark.django_db
def test_who_acts_and_since_when_is_written_beside_each_event() -> None:
    with acting(actor="ada", occurred_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC), traceparent=TRACE) as cause:
        account = opens_account()
    (opened,) = records(account)
    assert (opened.actor, opened.traceparent, opened.causation_id) == ("ada", TRACE, None)
    assert opened.occurred_at == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert opened.correlation_id == cause.correlation_id
    assert opened.recorded_at > opened.occurred_at


@pytest.mark.django_db
def test_each_command_without_a_cause_begins_a_conversation_of_its_own() -> None:
    one, other = uuid4(), uuid4()
    dispatch_all([OpenAccount(account_id=one, owner="Ada"), PayIn(account_id=one, amount=1)])
    opens_account(account_id=other)
    assert len({each.correlation_id for each in records(one)}) == 1
    assert records(one)[0].correlation_id != records(other)[0].correlation_id
    assert context.in_force() is None


@pytest.mark.django_db
def test_a_conversation_goes_on_through_sagas_and_effects() -> None:
    ledger = opens_account("Ledger")
    settle()
    effects.post = lambda event, delivery: PayIn(account_id=ledger, amount=1)
    with acting(actor="ada", traceparent=TRACE) as cause:
        account = opens_account()
    settle()
    opened, bonus = records(account)
    assert (bonus.actor, bonus.causation_id) == ("eventing.Welcome", opened.id)
    with because_of(cause):
        closes_account(account)
    settle()
    closed, outcome = records(account)[-1], records(ledger)[-1]
    assert (outcome.actor, outcome.causation_id) == ("eventing.farewell", closed.id)
    assert {each.correlation_id for each in (opened, bonus, closed, outcome)} == {cause.correlation_id}
    assert {each.traceparent for each in (opened, bonus, closed, outcome)} == {TRACE}


@pytest.mark.django_db
def test_what_is_recorded_about_an_old_event_happens_now() -> None:
    with acting(occurred_at=datetime(2010, 12, 1, tzinfo=UTC)):
        account = opens_account()
    settle()
    opened, bonus = records(account)
    assert bonus.occurred_at > opened.occurred_at
    assert abs(bonus.occurred_at - bonus.recorded_at).total_seconds() < 60


def test_the_cause_before_is_in_force_again_afterwards() -> None:
    outer = Cause(correlation_id=uuid4())
    with because_of(outer):
        with pytest.raises(ZeroDivisionError), acting(actor="ada"):
            raise ZeroDivisionError
        assert context.current() == outer
    assert context.in_force() is None
