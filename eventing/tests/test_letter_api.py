"""Letters, their groups and jobs, and subscriptions over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User

from eventing import audit, letter_jobs
from eventing.models import Attempt, Delivery
from eventing.subscriptions import Subscription
from eventing.tests.bank.customers import everything_is_relayed, opens_account
from eventing.tests.conftest import settled
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)

Poison = Callable[[int], list[UUID]]

LETTERS, GROUPS, JOBS = "/api/v1/letters", "/api/v1/letter-groups", "/api/v1/letter-jobs"
SUBSCRIPTIONS = "/api/v1/subscriptions"


@pytest.fixture
def clerk() -> ApiClient:
    user = User.objects.create_user("clerk")
    codenames = ["view_delivery", "retry_delivery", "skip_delivery", "view_checkpoint", "pause_checkpoint"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    api = ApiClient()
    api.force_authenticate(user)
    return api


def dead() -> list[int]:
    return list(Delivery.objects.filter(state="dead").order_by("pk").values_list("pk", flat=True))


def noted() -> list[tuple[str, dict[str, Any]]]:
    return [(entry.user.get_username(), audit.told(entry)) for entry in LogEntry.objects.order_by("pk")]


def listed(api: ApiClient, address: str = LETTERS, **asked: Any) -> list[dict[str, Any]]:
    answer = api.get(address, asked)
    assert answer.status_code == 200, answer.json()
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def test_groups_are_listed_with_what_they_keep_waiting(
    clerk: ApiClient, balances: Subscription, poison: Poison
) -> None:
    assert listed(clerk, GROUPS) == []
    poison(3)
    (group,) = listed(clerk, GROUPS)
    assert (group["subscription"], group["event_type"]) == (balances.name, "bank.money_paid_in")
    assert (group["exception"], group["dead"], group["retrying"], group["behind"]) == ("ValueError", 3, 0, 3)
    assert clerk.get(f"{GROUPS}/{group['signature']}").json() == group
    assert clerk.get(f"{GROUPS}/nonsense").status_code == 404
    Delivery.objects.update(state="done")
    assert listed(clerk, GROUPS) == []
    assert clerk.get(f"{GROUPS}/{group['signature']}").status_code == 404


def test_letters_are_listed_by_what_fits(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(3)
    found = listed(clerk)
    assert [letter["id"] for letter in found] == dead()
    first = found[0]
    assert (first["state"], first["attempts"], first["next_attempt_at"]) == ("dead", balances.attempts, None)
    assert first["error"] == "ValueError: I can't digest this."
    for asked, count in (
        ({"signature": first["signature"], "state": "dead"}, 3),
        ({"sequence": first["sequence"]}, 1),
        ({"subscription": balances.name, "event_type": "bank.money_paid_in"}, 3),
        ({"state": "waiting"}, 0),
        ({"subscription": "bank.nothing"}, 0),
    ):
        assert len(listed(clerk, **asked)) == count
    page = clerk.get(LETTERS, {"limit": 2}).json()
    assert [letter["id"] for letter in clerk.get(page["next"]).json()["results"]] == dead()[2:]
    for asked in ({"colour": "red"}, {"state": "done"}, {"limit": "0"}):
        refusal = clerk.get(LETTERS, asked)
        assert (refusal.status_code, refusal.json()["errors"][0]["parameter"]) == (400, next(iter(asked)))


def test_a_letter_tells_all_that_is_known_of_it(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(1)
    Attempt.objects.filter(number=2).delete()  # its worker died
    letter = clerk.get(f"{LETTERS}/{dead()[0]}").json()
    assert (letter["event_type"], letter["behind"]) == ("bank.money_paid_in", 1)
    assert letter["payload"]["amount"] == 666
    failures = letter["failures"]
    assert [failure["number"] for failure in failures] == list(range(1, balances.attempts + 1))
    assert [failure["number"] for failure in failures if failure["failed_at"] is None] == [2]
    assert failures[0]["traceback"].startswith("Traceback")
    assert failures[0]["worker"]
    assert clerk.get(f"{LETTERS}/{2**63}").status_code == 404


def test_one_letter_is_retried_and_the_others_are_left(
    clerk: ApiClient, balances: Subscription, poison: Poison, antidote: Callable[[], None]
) -> None:
    poison(2)
    antidote()
    first, second = dead()
    answer = clerk.post(f"{LETTERS}/{first}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["attempts"]) == (200, "waiting", 0)
    settled(balances)
    assert dead() == [second]
    assert noted() == [("clerk", {"act": "retried", "filter": {"ids": [first]}, "letters": 1, "letter_ids": [first]})]
    again = clerk.post(f"{LETTERS}/{first}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "rejected")
    assert len(noted()) == 1


def test_a_sequence_is_retried(
    clerk: ApiClient, balances: Subscription, poison: Poison, antidote: Callable[[], None]
) -> None:
    (account,) = poison(1)
    antidote()
    (letter,) = dead()
    assert clerk.post(f"{LETTERS}/{letter}/retry-sequence").json() == {"letters": 1}
    settled(balances)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}
    assert noted()[0][1]["filter"] == {"subscription": balances.name, "sequence": str(account)}
    assert clerk.post(f"{LETTERS}/{letter}/retry-sequence").status_code == 409


def test_what_waits_behind_another_is_no_letter_to_be_retried_or_skipped(clerk: ApiClient, poison: Poison) -> None:
    poison(1)
    behind = Delivery.objects.get(state="waiting").pk
    assert clerk.post(f"{LETTERS}/{behind}/retry").status_code == 409
    assert clerk.post(f"{LETTERS}/{behind}/skip", {"reason": "x"}).status_code == 409
    assert not LogEntry.objects.exists()


def test_a_letter_is_skipped_for_a_reason(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(1)
    (letter,) = dead()
    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 1_001}, {"reason": "x", "why": "y"}):
        assert clerk.post(f"{LETTERS}/{letter}/skip", body).status_code == 400
    answer = clerk.post(f"{LETTERS}/{letter}/skip", {"reason": "Paid by mistake"})
    assert (answer.json()["state"], answer.json()["reason"]) == ("skipped", "Paid by mistake")
    settled(balances)
    assert sorted(Delivery.objects.values_list("state", flat=True)) == ["done", "skipped"]
    assert noted()[0][1]["reason"] == "Paid by mistake"


def test_all_that_fit_are_skipped_for_a_reason(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(3)
    first, *others = dead()
    said = {"ids": others, "reason": "Paid by mistake"}
    assert clerk.post(f"{LETTERS}/skip", said).json() == {"letters": 2}
    assert dead() == [first]
    assert noted() == [
        (
            "clerk",
            {
                "act": "skipped",
                "filter": {"ids": others},
                "letters": 2,
                "letter_ids": others,
                "reason": "Paid by mistake",
            },
        )
    ]
    assert clerk.post(f"{LETTERS}/skip", said).status_code == 409


def test_nobody_means_all_letters_by_saying_nothing(clerk: ApiClient, poison: Poison) -> None:
    poison(1)
    for address, body in ((f"{LETTERS}/skip", {"reason": "x"}), (JOBS, {}), (JOBS, {"tolerance": 0.5})):
        answer = clerk.post(address, body)
        assert answer.status_code == 400
        assert "Say which letters" in answer.json()["errors"][0]["detail"]
    assert len(dead()) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"ids": []},
        {"ids": [0]},
        {"ids": ["1"]},
        {"ids": [2**63]},
        {"ids": [1] * 1_001},
        {"state": "done"},
        {"signature": "a\0"},
        {"state": "dead", "tolerance": 1.5},
        {"state": "dead", "tolerance": "NaN"},
        {"state": "dead", "gradually": True},
    ],
)
def test_a_job_that_cant_be_meant_is_refused(clerk: ApiClient, said: dict[str, Any]) -> None:
    assert clerk.post(JOBS, said).status_code == 400


def test_a_group_is_retried_gradually(
    clerk: ApiClient, balances: Subscription, poison: Poison, antidote: Callable[[], None]
) -> None:
    poison(8)
    antidote()
    (group,) = listed(clerk, GROUPS)
    started = clerk.post(JOBS, {"signature": group["signature"]})
    assert started.status_code == 201
    address = started["Location"]
    job = started.json()
    assert (job["state"], job["wave"], job["tolerance"], job["started_by"]) == ("running", 1, 0.2, "clerk")
    assert (job["progress"]["total"], job["progress"]["released"], job["progress"]["waiting"]) == (8, 1, 7)
    busy = clerk.post(JOBS, {"state": "dead"})
    assert (busy.status_code, busy.json()["code"]) == (409, "rejected")

    while clerk.get(address).json()["state"] == "running":
        settled(balances)
        letter_jobs.tend()
    assert clerk.get(address).json()["progress"]["succeeded"] == 8
    assert [job["state"] for job in listed(clerk, JOBS)] == ["done"]
    outcomes = listed(clerk, f"{address}/letters")
    assert [outcome["wave"] for outcome in outcomes] == [1, 2, 2, 3, 3, 3, 3, 3]
    assert {outcome["state"] for outcome in outcomes} == {"succeeded"}
    assert listed(clerk, f"{address}/letters", state="failed") == []
    assert clerk.get(f"{JOBS}/0/letters").status_code == clerk.get(f"{JOBS}/0").status_code == 404
    ((who, told),) = noted()
    assert (who, told["act"], told["letters"]) == ("clerk", "began to retry", 8)


def test_a_job_stops_by_itself_and_says_why(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(3)
    address = clerk.post(JOBS, {"subscription": balances.name, "tolerance": 0.5})["Location"]
    settled(balances)
    letter_jobs.tend()
    job = clerk.get(address).json()
    assert job["state"] == "stopped"
    assert job["said"].startswith("1 of the 1 in wave 1 failed again, which is more than 50%.")
    (failed,) = listed(clerk, f"{address}/letters", state="failed")
    assert failed["letter"] == dead()[0]


def test_a_job_is_cancelled_once(clerk: ApiClient, balances: Subscription, poison: Poison) -> None:
    poison(2)
    address = clerk.post(JOBS, {"subscription": balances.name})["Location"]
    assert clerk.post(f"{address}/cancel").json()["state"] == "cancelled"
    again = clerk.post(f"{address}/cancel")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        f"Job {address.rsplit('/', 1)[1]} has ended: it's cancelled.",
    )
    assert [told["act"] for _, told in noted()] == ["began to retry", "cancelled"]


@pytest.mark.parametrize("act", ["retry", "retry-sequence", "skip"])
def test_asking_for_an_act_by_get_does_nothing(clerk: ApiClient, poison: Poison, act: str) -> None:
    poison(1)
    assert clerk.get(f"{LETTERS}/{dead()[0]}/{act}").status_code in (403, 405)
    assert len(dead()) == 1


def test_subscriptions_are_listed_paused_and_resumed(clerk: ApiClient, balances: Subscription) -> None:
    opens_account()
    everything_is_relayed()
    head = clerk.get(SUBSCRIPTIONS).json()["head"]
    one = f"{SUBSCRIPTIONS}/{balances.name}"
    assert (clerk.get(one).json()["state"], clerk.get(one).json()["lag"]) == ("running", head)
    assert clerk.get(one).json() | {"lag_seconds": 0} in [
        each | {"lag_seconds": 0} for each in listed(clerk, SUBSCRIPTIONS)
    ]
    assert clerk.post(f"{one}/pause").json()["state"] == "paused"
    assert clerk.post(f"{one}/pause").json()["state"] == "paused"
    settled(balances)
    assert clerk.get(one).json()["lag"] == head
    assert clerk.post(f"{one}/resume").json()["state"] == "running"
    settled(balances)
    assert clerk.get(one).json()["lag"] == 0
    assert [(who, told["act"]) for who, told in noted()] == [("clerk", "paused"), ("clerk", "resumed")]
    for nothing in (f"{SUBSCRIPTIONS}/no.Such/pause", f"{one}/nonsense"):
        assert clerk.post(nothing).status_code == 404
    assert clerk.get(f"{SUBSCRIPTIONS}/no.Such").status_code == 404
    assert clerk.get(SUBSCRIPTIONS, {"limit": "5"}).status_code == 400
