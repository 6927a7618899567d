"""Whoever reads an event gets it as today's code knows it, whenever it was stored."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from django.core.management import call_command
from django.utils import timezone

from eventing import deliveries, store
from eventing.deliveries import failed
from eventing.domain import Rejected
from eventing.effects import Delivery
from eventing.handlers import dispatch
from eventing.models import OutboxEntry, SagaInstance, StoredEvent
from eventing.records import Stored, decode
from eventing.testing import settle
from eventing.tests.bank import effects, projections
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.customers import opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountClosed, AccountOpened
from eventing.tests.bank.models import Balance
from eventing.tests.bank.sagas import BONUS
from eventing.tests.bank.upcasters import LONG_AGO
from eventing.upcasting import UnknownVersion, upcast

pytestmark = pytest.mark.django_db


def was_stored(account: UUID, type: str, schema_version: int, data: dict[str, Any]) -> None:
    """Record an event as a program of another time did."""
    now, id, stream = timezone.now(), uuid4(), stream_of(account)
    StoredEvent.objects.create(
        id=id,
        category=stream.category,
        stream_id=stream.id,
        version=store.version(stream) + 1,
        type=type,
        schema_version=schema_version,
        data={"account_id": str(account), **data},
        metadata={},
        occurred_at=now,
        recorded_at=now,
        correlation_id=id,
        actor="",
        traceparent="",
    )
    OutboxEntry.objects.create(event_id=id, type=type)


def was_opened_long_ago(owner: str = "Ada") -> UUID:
    """An account whose first event has the first version's shape."""
    account = uuid4()
    was_stored(account, "bank.account_opened", 1, {"name": owner})
    return account


def was_closed_long_ago(account: UUID) -> None:
    was_stored(account, "bank.account_closed", 1, {})


def test_an_old_event_is_brought_up_to_date_step_by_step() -> None:
    account = uuid4()
    stored = Stored("bank.account_opened", 1, f'{{"account_id": "{account}", "name": "Ada"}}')
    assert decode(stored) == AccountOpened(account_id=account, owner="Ada")
    assert decode(Stored("bank.account_opened", 2, stored.data.replace("name", "holder"))) == decode(stored)


def test_an_event_of_today_goes_through_no_upcaster() -> None:
    today = Stored("bank.account_closed", 2, f'{{"account_id": "{uuid4()}", "reason": "A quarrel."}}')
    closed = decode(today)
    assert isinstance(closed, AccountClosed)
    assert closed.reason == "A quarrel."


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        (0, r"nothing brings it to 1. Write a function with @upcasts\(AccountOpened, from_version=0\)"),
        (4, "this program knows it up to 3: it was written by newer code"),
    ],
)
def test_a_version_that_no_code_can_read_is_an_error_that_says_what_to_do(version: int, complaint: str) -> None:
    with pytest.raises(UnknownVersion, match=complaint):
        upcast(AccountOpened, version, "{}")


def test_an_aggregate_follows_old_events() -> None:
    account = was_opened_long_ago("Ada")
    assert store.load(Account, account).owner == "Ada"
    pays_in(account, 3)
    assert store.load(Account, account).balance == 3


def test_an_aggregate_that_is_remembered_follows_old_events_that_came_since() -> None:
    account = opens_account()
    pays_in(account, *range(1, 9))
    was_closed_long_ago(account)  # by a process that still runs the code of before
    with pytest.raises(Rejected, match="isn't open"):
        dispatch(PayIn(account_id=account, amount=1))


def test_the_history_of_a_stream_shows_old_events_as_they_are_known_today() -> None:
    account = was_opened_long_ago("Ada")
    was_closed_long_ago(account)
    assert [record.event for record in store.read(stream_of(account))] == [
        AccountOpened(account_id=account, owner="Ada"),
        AccountClosed(account_id=account, reason=LONG_AGO),
    ]


def test_a_projection_gets_old_events_as_they_are_known_today() -> None:
    account = was_opened_long_ago("Ada")
    settle()
    assert Balance.objects.get(account_id=account).owner == "Ada"


def test_a_saga_gets_old_events_as_they_are_known_today() -> None:
    account = was_opened_long_ago()
    settle()
    assert SagaInstance.objects.get(key=account).state == "WAITING"
    assert store.load(Account, account).balance == BONUS


def test_an_effect_gets_old_events_as_they_are_known_today() -> None:
    reasons: list[str] = []

    def post(event: AccountClosed, delivery: Delivery) -> None:
        reasons.append(event.reason)

    effects.post = post
    was_closed_long_ago(was_opened_long_ago())
    settle()
    assert reasons == [LONG_AGO]


def test_an_old_event_that_was_parked_is_tried_again_as_it_is_known_today(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("Not today.")

    account = was_opened_long_ago("Ada")
    with monkeypatch.context() as patched:
        patched.setattr(projections.Balances, "apply", fail)
        settle()
    letters = failed().filter(subscription="eventing.Balances")
    assert letters.get().event.schema_version == 1
    assert not Balance.objects.filter(account_id=account).exists()

    deliveries.retry(letters)
    settle()
    assert Balance.objects.get(account_id=account).owner == "Ada"


def test_an_old_event_that_no_upcaster_could_read_is_tried_again_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = was_opened_long_ago("Ada")
    with monkeypatch.context() as patched:
        patched.setattr("eventing.upcasting._upcasters", {})
        settle()
    (error,) = failed().filter(subscription="eventing.Balances").values_list("error", flat=True)
    assert "@upcasts(AccountOpened, from_version=1)" in error

    deliveries.retry(failed())
    settle()
    assert Balance.objects.get(account_id=account).owner == "Ada"


@pytest.mark.django_db(transaction=True)
def test_a_replay_gets_old_events_as_they_are_known_today() -> None:
    account = was_opened_long_ago("Ada")
    settle()
    Balance.objects.update(owner="Somebody else")
    call_command("replay_projection", "eventing.Balances", "--in-place")
    assert Balance.objects.get(account_id=account).owner == "Ada"


def test_old_fields_that_cant_be_read_are_an_error_that_names_them() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.owner"):
        decode(Stored("bank.account_opened", 2, f'{{"account_id": "{uuid4()}", "holder": 1}}'))
