"""What an operator sees of a stream: its events, and what they made of the aggregate."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command

from eventing import store
from eventing.context import acting
from eventing.states import Change, changes
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in, stream_of
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> UUID:
    """Opened by the clerk, paid into three times; the last payment isn't in the log yet."""
    with acting(actor="clerk"):
        account = opens_account("Ada [bold]")
    pays_in(account, 5, 7)
    everything_is_relayed()
    with acting(occurred_at=datetime(2011, 12, 9, 12, 50, tzinfo=UTC)):
        pays_in(account, 1)
    return account


def document(account: UUID, *options: str) -> Any:
    return json.loads(shown("account", str(account), "--json", *options))


def shown(*arguments: str) -> str:
    output = StringIO()
    call_command("show_stream", *arguments, stdout=output)
    return output.getvalue()


def refused(*arguments: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        call_command("show_stream", *arguments)
    return caught.value.returncode, str(caught.value)


def test_the_events_and_the_state_they_make(account: UUID) -> None:
    found = document(account)
    assert (found["stream"], found["version"]) == (f"account-{account}", 4)
    assert found["state"] == {"owner": "Ada [bold]", "balance": 13, "closed": False, "address": ""}
    assert [each["version"] for each in found["events"]] == [1, 2, 3, 4]
    opened, *_, last = found["events"]
    assert (opened["position"], opened["type"], opened["actor"]) == (1, "bank.account_opened", "clerk")
    assert opened["data"] == {"account_id": str(account), "owner": "Ada [bold]"}
    assert (last["position"], last["occurred_at"]) == (None, "2011-12-09T12:50:00Z")


def test_the_state_at_a_version(account: UUID) -> None:
    found = document(account, "--version", "2")
    assert (found["version"], found["state"]["balance"], len(found["events"])) == (2, 5, 2)


def test_the_state_at_a_time(account: UUID) -> None:
    third = list(store.read(stream_of(account)))[2].recorded_at
    assert document(account, "--at", third.isoformat())["version"] == 3
    elsewhere = third.astimezone(timezone(timedelta(hours=5)))
    assert document(account, "--at", elsewhere.isoformat())["version"] == 3
    assert document(account, "--at", third.replace(tzinfo=None).isoformat())["version"] == 3  # UTC
    before = document(account, "--at", "2011-12-10")
    assert (before["version"], before["events"], before["state"]["owner"]) == (0, [], "")


def test_what_changed_between_two_versions_and_the_events_that_did_it(account: UUID) -> None:
    found = document(account, "--diff", "1", "3")
    assert (found["before"], found["after"]) == (1, 3)
    assert found["changes"] == [{"attribute": "balance", "before": 0, "after": 12}]
    assert [each["data"]["amount"] for each in found["events"]] == [5, 7]


def test_of_a_long_stream_a_person_sees_the_last_events(account: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    assert [each["version"] for each in document(account, "--last", "2")["events"]] == [3, 4]
    assert [each["version"] for each in document(account, "--version", "3", "--last", "1")["events"]] == [3]
    call_command("show_stream", "account", str(account), "--diff", "2", "4")
    assert "Earlier events" not in capsys.readouterr().out
    payment = MoneyPaidIn(account_id=account, amount=1)
    store.append(stream_of(account), [payment] * 60, expected=4)
    call_command("show_stream", "account", str(account))
    assert "Earlier events aren't shown: --last 64 shows all." in capsys.readouterr().out
    assert len(document(account)["events"]) == 64


def test_it_is_shown_for_a_person(account: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("show_stream", "account", str(account))
    text = capsys.readouterr().out
    assert f"account-{account} at version 4" in text
    assert "Ada [bold]" in text
    assert "not yet" in text
    assert "of 2011-12-09 12:50:00" in text
    call_command("show_stream", "account", str(account), "--diff", "1", "3")
    assert "from version 1 to 3" in capsys.readouterr().out


def test_what_isnt_there_is_said(account: UUID) -> None:
    nobody = uuid4()
    assert refused("account", str(nobody)) == (1, f"There are no events of account {nobody}.")
    assert refused("account", str(account), "--version", "9") == (
        1,
        f"Stream account-{account} has the versions 0 to 4, and not 9.",
    )
    assert refused("account", str(account), "--diff", "1", "9")[0] == 1


def test_what_makes_no_sense_is_refused(account: UUID) -> None:
    returncode, complaint = refused("acount", str(account))
    assert returncode == 2
    assert "no stream category 'acount'. There are: account, " in complaint
    assert refused("account", "Ada") == (2, "'Ada' is not a UUID, which the ids of 'account' streams are.")
    assert refused("account", str(account), "--diff", "3", "1") == (
        2,
        "The first version has to be before the second: --diff 1 3.",
    )
    assert refused("account", str(account), "--diff", "2", "2")[0] == 2
    assert refused("account", str(account), "--last", "-1")[0] == 2
    assert "not allowed with" in refused("account", str(account), "--version", "1", "--at", "2011-12-09")[1]
    assert "'yesterday' is not a time such as" in refused("account", str(account), "--at", "yesterday")[1]


def test_an_event_that_nobody_can_read_is_named(account: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MoneyPaidIn, "stored_name", "bank.money_received")
    pays_in(account, 1)
    monkeypatch.undo()
    returncode, complaint = refused("account", str(account))
    assert returncode == 1
    assert "No event class has the stored name 'bank.money_received'" in complaint


def test_of_a_set_only_what_left_and_came_has_changed_and_of_a_part_only_its_fields() -> None:
    before = {"names": frozenset("ab"), "opened": AccountOpened(account_id=UUID(int=1), owner="Ada"), "open": True}
    after = {"names": frozenset("bc"), "opened": AccountOpened(account_id=UUID(int=1), owner="Ida"), "open": True}
    assert list(changes(before, after)) == [Change("names", ["a"], ["c"]), Change("opened.owner", "Ada", "Ida")]
