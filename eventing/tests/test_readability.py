"""What is stored and can't be read is found before a deploy does."""

from __future__ import annotations

import json
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from eventing import readability
from eventing.readability import unreadable
from eventing.tests.bank.customers import closes_account, opens_account
from eventing.tests.test_upcasting import was_opened_long_ago, was_stored

pytestmark = pytest.mark.django_db


def found() -> list[tuple[str, int, int]]:
    return [(each.type, each.schema_version, each.events) for each in unreadable()]


@pytest.fixture
def account() -> UUID:
    """An account with events that can be read, of today and of long ago."""
    closes_account(opens_account())
    return was_opened_long_ago()


def test_what_upcasters_bring_up_to_date_can_be_read(account: UUID) -> None:
    assert found() == []


def test_events_whose_class_is_gone_are_counted(account: UUID) -> None:
    for _ in range(2):
        was_stored(account, "bank.account_blessed", 1, {})
    assert found() == [("bank.account_blessed", 1, 2)]
    assert "keep its old name" in unreadable()[0].problem


def test_events_that_newer_code_wrote_are_counted(account: UUID) -> None:
    was_stored(account, "bank.account_opened", 4, {"owner": "Ada"})
    assert found() == [("bank.account_opened", 4, 1)]
    assert "written by newer code" in unreadable()[0].problem


def test_events_that_no_upcaster_leads_on_are_counted(account: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.upcasting._upcasters", {})
    assert found() == [("bank.account_opened", 1, 1)]
    assert "@upcasts(AccountOpened, from_version=1)" in unreadable()[0].problem


@pytest.mark.parametrize("shapes", [({"amount": 1}, {"sum": 1}), ({"sum": 1}, {"amount": 1})])
def test_the_oldest_and_the_newest_event_of_a_version_are_really_read(
    shapes: tuple[dict[str, int], ...], account: UUID
) -> None:
    for shape in shapes:
        was_stored(account, "bank.money_paid_in", 1, shape)
    assert found() == [("bank.money_paid_in", 1, 2)]
    assert "missing required field `amount`" in unreadable()[0].problem


def test_the_command_says_what_cant_be_read(account: UUID) -> None:
    was_stored(account, "bank.account_blessed", 1, {})
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_event_schemas", "--against-database", "--json", stdout=output)
    assert ended.value.code == 1
    (stored,) = json.loads(output.getvalue())["stored"]
    assert (stored["type"], stored["schema_version"], stored["events"]) == ("bank.account_blessed", 1, 1)


def test_the_command_says_that_all_can_be_read(account: UUID) -> None:
    output = StringIO()
    call_command("check_event_schemas", "--against-database", stdout=output)
    assert output.getvalue().endswith(
        "events: what is committed can be read (backward), and so can all that is stored.\n"
    )


def test_a_database_that_cant_be_asked_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(readability, "run", fail)
    with pytest.raises(CommandError, match="The database can't be asked: connection refused"):
        call_command("check_event_schemas", "--against-database")
