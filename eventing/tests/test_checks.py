"""Each way to hold it wrong gets a message of its own, and the project as it is gets none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from django.core.checks import run_checks
from django.db import connection
from pytest_django import Settings

from eventing import handlers, personal, subscriptions
from eventing.domain import Aggregate, Command, Event, Saga
from eventing.effects import effect
from eventing.handlers import handles
from eventing.models import Checkpoint
from eventing.projections import Listing, Projection
from eventing.sagas import saga
from eventing.tests.bank.commands import PayIn
from eventing.tests.bank.events import AccountEvent, AccountOpened, MoneyPaidIn
from eventing.tests.bank.models import Balance, Entry


@pytest.fixture(autouse=True)
def definitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test defines is forgotten after it, also by the classes that know their subclasses."""
    _forget_definitions()
    monkeypatch.setattr(handlers, "_handlers", {command: [*found] for command, found in handlers._handlers.items()})
    monkeypatch.setattr(subscriptions, "_subscriptions", dict(subscriptions._subscriptions))
    yield
    monkeypatch.undo()
    _forget_definitions()


def _forget_definitions() -> None:
    personal.fields_of.cache_clear()
    personal.structs_in.cache_clear()
    gc.collect()


class Unheard(Command):
    """A command that nobody handles."""


def complaints(tag: str = "eventing") -> dict[str, str]:
    """The messages of the checks, by id. Each has a hint about what to do."""
    messages = [each for each in run_checks(tags=[tag], databases=["default"]) if str(each.id).startswith("eventing.")]
    assert all(each.hint for each in messages)
    return {str(each.id).removeprefix("eventing."): each.msg for each in messages}


def consuming(*events: Any, returning: Any = None) -> Any:
    """A function for an effect that consumes these events."""

    def perform(event: Any) -> Any:
        return returning

    perform.__annotations__["event"] = events[0] if len(events) == 1 else events
    return perform


@pytest.mark.django_db
def test_the_project_as_it_is_gets_no_complaints() -> None:
    assert complaints() == {}
    assert complaints("database") == {}


def test_a_handler_of_something_that_is_no_command() -> None:
    @handles  # type: ignore[type-var]
    def add(command: int) -> None:
        pass

    assert complaints() == {"E001": "eventing.add handles <class 'int'>, which is no command."}


def test_two_handlers_of_one_command() -> None:
    @handles
    def pay_in_as_well(command: PayIn) -> None:
        pass

    assert complaints() == {"E002": "eventing.PayIn has 2 handlers: eventing.pay_in, eventing.pay_in_as_well."}


def test_a_command_that_an_effect_or_a_saga_sends_and_nobody_handles() -> None:
    def shout(event: AccountOpened) -> Unheard:
        return Unheard()

    effect(queue="eventing")(shout)
    assert complaints() == {"E003": "eventing.shout sends eventing.Unheard, which nobody handles."}
    del subscriptions._subscriptions["eventing.shout"]

    @saga
    class Shouting(Saga):
        begins_with = AccountOpened
        correlation = "account_id"

        def react(self, event: AccountOpened) -> Iterator[Command]:
            yield from self.shout()

        def shout(self) -> Iterator[Command]:
            yield from (Unheard() for _ in range(2))

    assert complaints() == {"E003": "eventing.Shouting sends eventing.Unheard, which nobody handles."}


def test_an_event_without_a_stored_name() -> None:
    class Nameless(Event):
        pass

    assert complaints() == {"E004": "eventing.Nameless has no stored name."}
    assert Nameless.stored_name == ""


def test_two_events_of_one_stored_name() -> None:
    class Copied(Event, name="bank.money_paid_in"):
        pass

    assert complaints() == {
        "E005": f"eventing.{Copied.__name__} has the stored name 'bank.money_paid_in', and so has another event."
    } or complaints() == {
        "E005": "eventing.MoneyPaidIn has the stored name 'bank.money_paid_in', and so has another event."
    }


@pytest.mark.parametrize("category", ["", "account"])
def test_an_aggregate_without_a_category_of_its_own(category: str) -> None:
    class Vault(Aggregate[AccountEvent], category=category):
        pass

    assert "no stream category of its own" in complaints()["E006"]
    assert Vault.category == category


def test_a_consumer_of_an_event_that_nobody_emits() -> None:
    class Whispered(Event, name="bank.whispered"):
        pass

    effect(queue="eventing")(consuming(Whispered))
    assert complaints() == {"E007": "eventing.perform consumes eventing.Whispered, which nobody emits."}


def test_a_consumer_of_something_that_is_no_event() -> None:
    effect(queue="eventing")(consuming(PayIn))
    assert "which is no event" in complaints()["E007"]
    del subscriptions._subscriptions["eventing.perform"]

    class Confused(Listing[Entry]):
        key = "account_id"

        def rows(self, event: MoneyPaidIn | PayIn) -> Iterator[Entry]:
            yield from ()

    assert "eventing.Confused consumes" in complaints()["E007"]
    assert Confused.model is Entry


def test_an_order_by_a_field_that_an_event_doesnt_have() -> None:
    class Misordered(Listing[Entry]):
        key = "owner"

        def rows(self, event: MoneyPaidIn) -> Iterator[Entry]:
            yield from ()

    assert complaints()["E008"] == (
        "eventing.Misordered is ordered by 'owner', which eventing.MoneyPaidIn doesn't have."
    )
    assert Misordered.key == "owner"


@pytest.mark.parametrize("partitions", [0, 257])
def test_more_or_less_partitions_than_there_can_be(partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions.subscription_named("eventing.Welcome"), "partitions", partitions)
    assert complaints() == {"E009": f"eventing.Welcome has {partitions} partitions."}


def test_two_projections_of_one_model() -> None:
    class BalancesAsWell(Projection[Balance]):
        key = "account_id"

        def apply(self, row: Balance, event: AccountOpened) -> None:
            pass

    assert complaints() == {"E010": "bank.Balance is written by 2 projections."}
    assert BalancesAsWell.model is Balance


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_TASK_ACKS_LATE", False),
        ("CELERY_TASK_REJECT_ON_WORKER_LOST", False),
        ("CELERY_TASK_ALWAYS_EAGER", True),
        ("CELERY_WORKER_PREFETCH_MULTIPLIER", 4),
    ],
)
def test_celery_settings_that_lose_or_hold_up_work(name: str, value: Any, settings: Settings) -> None:
    setattr(settings, name, value)
    assert list(complaints()) == ["E011"]
    assert complaints()["E011"].startswith(f"{name} isn't {not value if isinstance(value, bool) else 1}: ")


@pytest.mark.parametrize(("limit", "timeout"), [(None, 3600), (300, 300), (3600, 300)])
def test_a_broker_that_hands_out_tasks_twice(limit: int | None, timeout: int, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1"
    settings.CELERY_TASK_TIME_LIMIT = limit
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": timeout}
    assert complaints() == {"E012": "Redis would hand out a task again while it still runs."}


def test_connections_that_are_reused_unchecked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "CONN_HEALTH_CHECKS", False)
    assert list(complaints()) == ["E013"]


def test_an_effect_on_a_queue_that_nobody_serves() -> None:
    effect(queue="nowhere")(consuming(AccountOpened))
    assert complaints() == {"E014": "eventing.perform wants workers of the queue 'nowhere', which nobody serves."}


@pytest.mark.django_db
def test_a_server_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "pg_version", 140_010)
    assert complaints("database") == {"E015": "PostgreSQL 14 is too old."}


@pytest.mark.django_db
def test_a_changed_partition_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions.subscription_named("eventing.Welcome"), "partitions", 8)
    assert complaints("database") == {"E016": "eventing.Welcome is declared with 8 partitions, but has 2 checkpoints."}


@pytest.mark.django_db
def test_checkpoints_of_a_subscription_that_is_gone() -> None:
    Checkpoint.objects.create(subscription="bank.Gone", partition=0)
    assert complaints("database") == {
        "W001": "There are checkpoints of bank.Gone, which isn't a subscription any more."
    }


def test_a_state_of_which_no_snapshot_can_be_taken() -> None:
    class Vault(Aggregate[AccountOpened], category="vault", snapshot_every=10):
        owner = None
        keys: tuple[Any, ...] = ()
        guard: Thread | None = None
        size: int
        shape: int | str | UUID = 0

        def __init__(self, id: UUID) -> None:
            super().__init__(id)
            self.alarm = False

    found = [each.msg for each in run_checks(tags=["eventing"]) if each.id == "eventing.E023"]
    assert [message.removeprefix("No snapshots can be taken of eventing.Vault: ")[:30] for message in found] == [
        "'alarm' isn't declared in the ",
        "'guard' doesn't say what it is",
        "'keys' doesn't say what it is ",
        "'owner' doesn't say what it is",
        "'shape' can't be told from JSO",
        "'size' has no value before the",
    ]
