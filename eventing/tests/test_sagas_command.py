from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command

from eventing import audit
from eventing.models import SagaInstance, Timer
from eventing.resuming import find, saga_named
from eventing.sagas import SagaSubscription
from eventing.tests.bank.customers import closes_account, opens_account, pays_in
from eventing.tests.test_resuming import worked

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def welcome() -> SagaSubscription:
    return saga_named("eventing.Welcome")


@pytest.fixture
def failed(welcome: SagaSubscription) -> UUID:
    account = opens_account()
    closes_account(account)
    worked(welcome)
    return account


def sagas(*arguments: Any) -> str:
    output = StringIO()
    call_command("sagas", *map(str, arguments), stdout=output)
    return output.getvalue()


def as_json(*arguments: Any) -> Any:
    return json.loads(sagas(*arguments, "--json"))


def test_sagas_are_listed_newest_first(welcome: SagaSubscription) -> None:
    assert sagas("list") == "There are no such sagas.\n"
    first, second = opens_account(), opens_account()
    worked(welcome)
    order = [str(each) for each in SagaInstance.objects.order_by("-pk").values_list("key", flat=True)]
    assert [each["key"] for each in as_json("list")] == order
    assert {str(first), str(second)} == set(order)
    assert len(as_json("list", "--limit", 1)) == 1
    assert as_json("list", "--state", "FAILED") == as_json("list", "--saga", "orders.OrderFulfilment") == []
    assert str(first) in sagas("list", "--state", "WAITING")


def test_of_the_stuck_ones_it_is_said_why(welcome: SagaSubscription, failed: UUID) -> None:
    opens_account()
    worked(welcome)
    (only,) = as_json("list", "--stuck")
    assert (only["key"], only["failed"]) == (str(failed), True)
    assert only["why"].endswith("and waits for a person: The account was closed.")
    assert "The account was closed." in " ".join(sagas("list", "--stuck").split())


def test_a_saga_that_the_program_does_not_define_any_more_hides_no_other_that_is_stuck(failed: UUID) -> None:
    SagaInstance.objects.create(saga="gone.Saga", key=uuid4(), state="FAILED", failed=True, memory={})
    gone, other = as_json("list", "--stuck")
    assert (gone["saga"], other["key"]) == ("gone.Saga", str(failed))
    assert gone["why"] == "The program doesn't define this saga any more, so nothing moves it."
    assert "gone.Saga" in sagas("list", "--stuck")


def test_a_saga_that_has_ended_well_is_not_resumed_and_that_is_an_error(welcome: SagaSubscription) -> None:
    account = opens_account()
    pays_in(account, 10)
    worked(welcome)
    for arguments in (["resume", account], ["resume", account, "--dry-run"]):
        with pytest.raises(CommandError, match="has ended COMPLETED: there is nothing to resume") as error:
            sagas(*arguments)
        assert error.value.returncode == 1


def test_when_nothing_is_stuck_it_says_so(welcome: SagaSubscription) -> None:
    opens_account()
    worked(welcome)
    assert sagas("list", "--stuck") == "No saga is stuck.\n"


def test_a_saga_is_shown_with_all_that_it_did(failed: UUID) -> None:
    shown = sagas("show", failed)
    assert shown.startswith(f"eventing.Welcome {failed}: FAILED\nIt failed ")
    assert "What helps: resume the saga." in shown
    for part in ("bank.account_opened", "bank.account_closed", "eventing.PayIn, refused: This account isn't open."):
        assert part in shown
    document = as_json("show", failed)
    assert [step["event"] for step in document["history"]] == ["bank.account_opened", "bank.account_closed"]
    assert document["history"][1]["changed"] == ["reason"]
    assert document["memory"] == {
        "paid_in": 0,
        "reason": "The account was closed.",
        "refused": "This account isn't open.",
        "given_up": [],
    }


def test_a_saga_is_shown_with_its_reminders(welcome: SagaSubscription) -> None:
    account = opens_account()
    worked(welcome)
    assert "A reminder about 'deadline' is due at 2" in sagas("show", account)
    (reminder,) = as_json("show", account)["reminders"]
    assert reminder["about"] == "deadline"


def test_of_a_saga_older_than_its_history_that_is_said(welcome: SagaSubscription) -> None:
    account = uuid4()
    SagaInstance.objects.create(saga=welcome.name, key=account, state="WAITING", memory={"id": str(account)})
    assert "What it did before its history was kept isn't known." in sagas("show", account)


def test_it_is_resumed_and_that_is_noted(welcome: SagaSubscription, failed: UUID, monkeypatch: Any) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert sagas("resume", failed) == (
        f"eventing.Welcome {failed} hears of it as soon as it has seen everything else.\n"
    )
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "shell"
    assert audit.told(entry) == {"act": "resumed", "state": "FAILED", "letters": 0, "os_user": "root"}
    worked(welcome)
    assert find(failed).history.get(number=3).about == "resumed"


def test_a_dry_run_does_nothing(failed: UUID) -> None:
    assert as_json("resume", failed, "--dry-run") == {"letters": 0, "hears": True, "dry_run": True}
    assert sagas("resume", failed, "--dry-run") == f"eventing.Welcome {failed} would hear of it.\n"
    assert not LogEntry.objects.exists()
    assert not Timer.objects.exists()


def test_a_saga_that_can_not_be_resumed_is_an_error(
    welcome: SagaSubscription, failed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(welcome, "can_resume", False)
    with pytest.raises(CommandError, match="it wouldn't hear of it") as error:
        sagas("resume", failed)
    assert error.value.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["show", "42"], "'42' is no saga's key", 2),
        (["show", str(UUID(int=1))], "There is no saga with the key", 1),
        (["list", "--saga", "orders.Nothing"], "There's no subscription named 'orders.Nothing'", 2),
        (["list", "--saga", "payments.charge"], "payments.charge is no saga but of the kind effect", 2),
        (["list", "--limit", "0"], "--limit is 1 or more", 2),
    ],
)
def test_what_can_not_be_is_said_with_what_to_do(arguments: list[str], message: str, code: int) -> None:
    with pytest.raises(CommandError, match=message) as error:
        sagas(*arguments)
    assert error.value.returncode == code
