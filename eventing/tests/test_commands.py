"""What operators type: status, dead letters, subscriptions."""

from __future__ import annotations

import json
from io import StringIO
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command

from eventing import audit, letter_jobs
from eventing.deliveries import failed
from eventing.models import Checkpoint, Delivery, LetterJob
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from eventing.tests.bank import projections
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.models import Balance
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import Program

pytestmark = pytest.mark.django_db(transaction=True)


def output_of(*arguments: str) -> str:
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


def refused(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what it complains about."""
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    return caught.value.returncode, str(caught.value)


@pytest.fixture
def dead() -> UUID:
    """An account with a dead letter and one that waits behind it."""
    account = opens_account("Ada")
    pays_in(account, POISON, 1)
    settle()
    return account


def test_the_status_tells_the_head_the_backlog_and_each_subscription(dead: UUID) -> None:
    opens_account()
    everything_is_relayed()
    opens_account()
    found = json.loads(output_of("eventing_status", "--json"))
    assert found["head"] == 5
    assert found["outbox"]["backlog"] == 1
    assert found["outbox"]["oldest_seconds"] > 0
    (balances,) = [each for each in found["subscriptions"] if each["name"] == "eventing.Balances"]
    assert (balances["position"], balances["lag"], balances["state"], balances["kind"]) == (
        4,
        1,
        "running",
        "projection",
    )
    assert (balances["waiting"], balances["dead"], balances["partitions"]) == (2, 1, 1)


def test_the_status_is_shown_for_a_person(
    dead: UUID, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    call_command("eventing_status")
    shown = capsys.readouterr().out
    assert "Log: 4 events. Outbox: 0, oldest 0.0 s." in shown
    assert "Inbox: 0 waiting, 0 dead." in shown
    assert "eventing.Balances" in shown


def test_the_status_tells_of_checkpoints_that_are_missing() -> None:
    Checkpoint.objects.filter(subscription="eventing.Balances").delete()
    found = json.loads(output_of("eventing_status", "--json"))
    (balances,) = [each for each in found["subscriptions"] if each["name"] == "eventing.Balances"]
    assert balances["state"] == "missing: run `manage.py migrate`"


def test_dead_letters_are_listed(dead: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    (letter,) = json.loads(output_of("dead_letters", "list", "--json"))
    assert (letter["subscription"], letter["sequence"], letter["state"]) == ("eventing.Balances", str(dead), "dead")
    assert (letter["event"], letter["position"], letter["waiting_behind"]) == ("bank.money_paid_in", 2, 2)
    assert letter["error"] == "ValueError: I can't digest this."
    assert json.loads(output_of("dead_letters", "list", "--json", "--subscription", "eventing.Entries")) == []
    call_command("dead_letters", "list")
    assert "dead" in capsys.readouterr().out


def test_without_dead_letters_the_list_says_so() -> None:
    assert output_of("dead_letters", "list") == "Nothing has failed.\n"
    assert json.loads(output_of("dead_letters", "list", "--json")) == []


def test_a_dead_letter_is_retried_by_number(dead: UUID) -> None:
    projections.poisoned = False
    assert output_of("dead_letters", "retry", str(failed().get().pk)) == "1 will be tried again.\n"
    settle()
    assert Balance.objects.get().amount == POISON + 1 + 5


def test_letters_come_in_groups_and_one_is_shown_with_each_attempt(dead: UUID) -> None:
    (group,) = json.loads(output_of("dead_letters", "list", "--groups", "--json"))
    assert (group["exception"], group["message"], group["dead"]) == ("ValueError", "I can't digest this.", 1)
    shown = output_of("dead_letters", "list")
    assert group["signature"] in shown
    letter = failed().get().pk
    assert "Attempt 8" in output_of("dead_letters", "show", str(letter))
    found = json.loads(output_of("dead_letters", "show", str(letter), "--json"))
    assert (found["data"]["amount"], len(found["attempts"])) == (POISON, 8)
    assert refused("dead_letters", "show", "0")[0] == 1


def test_a_group_is_retried_gradually_by_a_job(dead: UUID) -> None:
    (group,) = json.loads(output_of("dead_letters", "list", "--groups", "--json"))
    told = output_of("dead_letters", "retry", "--group", group["signature"])
    assert told.endswith("1 will be tried again, gradually, by the workers.\n")
    again = refused("dead_letters", "retry", "--group", group["signature"])
    assert again == (1, "There are no dead letters that match.")  # it's being tried
    projections.poisoned = False
    settle()
    letter_jobs.tend()
    letter_jobs.tend()
    assert LetterJob.objects.get().state == "done"


def test_what_is_done_at_the_shell_is_noted_too(dead: UUID) -> None:
    output_of("dead_letters", "skip", "--all", "--reason", "A test payment.")
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "shell"
    assert audit.told(entry)["reason"] == "A test payment."
    assert audit.told(entry)["os_user"]


def test_dead_letters_are_skipped_all_at_once_for_a_reason(dead: UUID) -> None:
    assert output_of("dead_letters", "skip", "--all", "--reason", " A test payment. ") == "1 skipped.\n"
    settle()
    assert Balance.objects.get().amount == 1 + 5
    assert Delivery.objects.get(state="skipped").reason == "A test payment."


def test_a_dry_run_changes_nothing(dead: UUID) -> None:
    assert output_of("dead_letters", "retry", "--all", "--dry-run") == "1 would be tried again.\n"
    assert output_of("dead_letters", "skip", "--all", "--reason", "x", "--dry-run") == "1 would be skipped.\n"
    told = output_of("dead_letters", "skip", "--all", "--reason", "x", "--dry-run", "--json")
    assert json.loads(told) == {"letters": 1, "dry_run": True}
    assert failed().get().state == "dead"


def test_letters_that_arent_there_are_refused(dead: UUID) -> None:
    assert refused("dead_letters", "retry", "0") == (1, "No open letters have these numbers: 0.")
    behind = Delivery.objects.filter(error="").earliest("position").pk
    assert refused("dead_letters", "skip", str(behind), "--reason", "x")[0] == 1
    assert refused("dead_letters", "retry") == (
        2,
        "Name the letters by their numbers, or a --group or --sequence, or say --all.",
    )
    assert refused("dead_letters", "retry", "1", "--all")[0] == 2
    assert refused("dead_letters", "skip", "--all", "--reason", " ")[0] == 2
    assert refused("dead_letters", "list", "--subscription", "bank.Nothing")[0] == 2
    assert refused("dead_letters", "retry", "--all", "--subscription", "eventing.Entries") == (
        1,
        "There are no dead letters that match.",
    )


def test_a_subscription_is_paused_and_resumed() -> None:
    assert output_of("subscriptions", "pause", "eventing.Welcome") == "eventing.Welcome: 2 partitions paused.\n"
    assert json.loads(output_of("eventing_status", "--json"))["subscriptions"]
    assert output_of("subscriptions", "resume", "eventing.Welcome") == "eventing.Welcome: 2 partitions go on.\n"


def test_a_subscription_is_split_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    returncode, complaint = refused("subscriptions", "repartition", "eventing.Welcome")
    assert returncode == 1
    assert "subscriptions pause eventing.Welcome" in complaint
    monkeypatch.setattr(subscription_named("eventing.Welcome"), "partitions", 3)
    call_command("subscriptions", "pause", "eventing.Welcome", stdout=StringIO())
    assert "3 partitions" in output_of("subscriptions", "repartition", "eventing.Welcome")
    assert Checkpoint.objects.filter(subscription="eventing.Welcome").count() == 3
    assert refused("subscriptions", "pause", "bank.Nothing")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["dead_letters"],
        ["dead_letters", "skip", "--all"],
        ["dead_letters", "retry", "one"],
        ["subscriptions", "stop", "eventing.Welcome"],
        ["event_map", "--json", "--mermaid"],
        ["eventing_status", "--yaml"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_so_on_stderr(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert str(caught.value).startswith("Error: ")


def test_a_command_writes_its_document_to_stdout_and_nothing_else(program: Program) -> None:
    status = program("django", "eventing_status", "--json")
    wrong = program("django", "subscriptions", "pause", "bank.Nothing")
    output, _ = status.communicate(timeout=60)
    assert json.loads(output)["head"] == 0
    output, errors = wrong.communicate(timeout=60)
    assert (wrong.returncode, output) == (2, "")
    assert "There's no subscription named 'bank.Nothing'" in errors
