from __future__ import annotations

import json
import signal
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from eventing import deliveries, replay
from eventing.advance import advance
from eventing.models import Checkpoint, Delivery
from eventing.projections import ProjectionSubscription
from eventing.replay import NotReplayable, projection_named
from eventing.subscriptions import UnknownSubscription
from eventing.testing import settle
from eventing.tests.bank import projections
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import Program
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def balances() -> ProjectionSubscription:
    return projection_named("eventing.Balances")


@pytest.fixture
def accounts() -> list[UUID]:
    """Five accounts with three payments each, all of it projected."""
    opened = [opens_account(str(number)) for number in range(5)]
    for account in opened:
        pays_in(account, 1, 2, 3)
    settle()
    return opened


def amounts() -> list[int]:
    return list(Balance.objects.order_by("owner").values_list("amount", flat=True))


def checkpoint(projection: ProjectionSubscription) -> Checkpoint:
    return Checkpoint.objects.get(subscription=projection.name)


def test_a_read_model_is_rebuilt_from_the_log(balances: ProjectionSubscription, accounts: list[UUID]) -> None:
    before = amounts()
    Balance.objects.update(amount=999)
    assert sum(replay.replay(balances)) == checkpoint(balances).position == replay.total(balances)
    assert amounts() == before
    assert checkpoint(balances).state == "running"


def test_a_replay_that_was_interrupted_goes_on_where_it_stopped(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = amounts()
    monkeypatch.setattr(replay, "BATCH", 3)
    replaying = replay.replay(balances)
    done = next(replaying) + next(replaying)
    del replaying
    assert checkpoint(balances).state == "replaying"
    assert checkpoint(balances).position == done
    assert not advance(balances, 0)  # nobody else moves it meanwhile
    assert amounts() != before
    again = replay.replay(balances)
    assert next(again) == done
    list(again)
    assert amounts() == before


def test_what_happens_during_a_replay_is_included_once(
    balances: ProjectionSubscription, accounts: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 5)
    total = sum(amounts())
    for _ in replay.replay(balances):
        if Balance.objects.aggregate(paid=Sum("amount"))["paid"] < total and len(accounts) < 8:
            accounts.append(opens_account("new"))
            pays_in(accounts[-1], 100)
            everything_is_relayed()
            advance(balances, 0)
    settle()
    assert len(accounts) > 5
    assert Balance.objects.aggregate(paid=Sum("amount"))["paid"] == total + (len(accounts) - 5) * 105


def test_letters_of_the_projection_are_replaced(balances: ProjectionSubscription) -> None:
    account = opens_account()
    pays_in(account, POISON, 1)
    settle()
    assert deliveries.failed().get().state == "dead"
    projections.poisoned = False
    list(replay.replay(balances))
    assert not Delivery.objects.filter(subscription=balances.name).exists()
    assert Balance.objects.get().amount == POISON + 1 + 5


@pytest.mark.parametrize("settled_by", ["skip", "retry"])
def test_an_event_that_fails_again_in_a_replay_is_parked_again(
    settled_by: str, balances: ProjectionSubscription
) -> None:
    account = opens_account()
    pays_in(account, POISON, 1)
    settle()
    if settled_by == "skip":
        deliveries.skip(deliveries.failed(), reason="A test payment.")
    else:
        projections.poisoned = False
        deliveries.retry(deliveries.failed())
    settle()
    assert not deliveries.failed().exists()
    projections.poisoned = True
    list(replay.replay(balances))
    assert checkpoint(balances).state == "running"
    assert deliveries.failed().get().position == 2
    assert deliveries.waiting_behind(deliveries.failed().get()) == 2


@pytest.mark.parametrize("name", ["eventing.Welcome", "eventing.farewell"])
def test_what_acts_on_the_world_cant_be_replayed(name: str) -> None:
    with pytest.raises(NotReplayable, match="it would do again what it did"):
        projection_named(name)
    with pytest.raises(UnknownSubscription):
        projection_named("eventing.Nothing")


def test_the_command_tells_what_it_does_on_stderr_and_its_result_on_stdout(accounts: list[UUID]) -> None:
    output, errors = StringIO(), StringIO()
    call_command("replay_projection", "eventing.Balances", "eventing.Entries", stdout=output, stderr=errors)
    assert "Rebuilding in place: eventing.Balances, eventing.Entries." in errors.getvalue()
    first, second = output.getvalue().splitlines()
    assert first.startswith("eventing.Balances: ")
    assert second.startswith("eventing.Entries: ")


def test_the_command_prints_one_json_document(accounts: list[UUID]) -> None:
    output, errors = StringIO(), StringIO()
    call_command("replay_projection", "eventing.Balances", "--json", stdout=output, stderr=errors)
    (replayed,) = json.loads(output.getvalue())
    assert replayed["projection"] == "eventing.Balances"
    assert replayed["positions"] == replay.total(projection_named("eventing.Balances"))
    assert errors.getvalue() == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Name projections, or say --all"),
        (["eventing.Balances", "--all"], "Name projections, or say --all"),
        (["eventing.Nothing"], "There's no subscription named 'eventing.Nothing'"),
        (["eventing.Welcome"], "is a saga, which can't be replayed"),
        (["eventing.farewell"], "is a effect|is an effect"),
    ],
)
def test_the_command_refuses_what_cant_be_replayed(arguments: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint) as caught:
        call_command("replay_projection", *arguments)
    assert caught.value.returncode == 2


def test_the_command_can_be_interrupted_and_goes_on(
    balances: ProjectionSubscription, accounts: list[UUID], program: Program
) -> None:
    before = amounts()
    replaying = program("eventing.tests.bank", "replay_slowly", balances.name)
    assert eventually(lambda: checkpoint(balances).state == "replaying" and checkpoint(balances).position > 0)
    replaying.send_signal(signal.SIGINT)
    output, errors = replaying.communicate(timeout=20)
    assert (replaying.returncode, output) == (130, "")
    assert "Go on with `manage.py replay_projection eventing.Balances`" in errors
    Checkpoint.objects.update(begun_at=None)
    call_command("replay_projection", balances.name, stdout=StringIO(), stderr=StringIO())
    assert amounts() == before
