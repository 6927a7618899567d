"""The pages of sagas, subscriptions, replays and the outbox, as operators and viewers get them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from eventing import audit, checkpoints, replay
from eventing.models import Checkpoint, Delivery, RelayFailure, Replay, SagaInstance, SagaStep, Timer
from eventing.projections import ProjectionSubscription
from eventing.relay import relay_all
from eventing.replay import work_on
from eventing.testing import settle
from eventing.tests.bank.customers import closes_account, opens_account, pays_in
from eventing.tests.bank.models import Balance
from tests.clients import with_permissions

pytestmark = pytest.mark.django_db(transaction=True)

WELCOME, BALANCES = "eventing.Welcome", "eventing.Balances"


LOOKS = ["view_sagainstance", "view_checkpoint", "view_outboxentry", "view_storedevent"]
ACTS = ["resume_sagainstance", "pause_checkpoint", "run_replay"]


@pytest.fixture
def viewer() -> Client:
    return with_permissions("viewer", *LOOKS)


@pytest.fixture
def operator() -> Client:
    return with_permissions("operator", *LOOKS, *ACTS)


@pytest.fixture
def failed() -> UUID:
    """A saga that failed because its account was closed."""
    account = opens_account()
    settle()
    closes_account(account)
    settle()
    return account


def page(client: Client, name: str, *arguments: Any, **asked: Any) -> str:
    answer = client.get(reverse(f"operations:{name}", args=arguments), asked)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def posted(client: Client, name: str, *arguments: Any) -> list[str]:
    """What the page says after something was done."""
    here = reverse("operations:outbox")
    answer: Any = client.post(reverse(f"operations:{name}", args=arguments), {"next": here}, follow=True)
    assert answer.redirect_chain == [(here, 302)]
    return [str(message) for message in answer.context["messages"]]


def noted() -> list[dict[str, Any]]:
    return [audit.told(entry) for entry in LogEntry.objects.order_by("pk")]


PAGES = [
    ("sagas", ()),
    ("saga", (WELCOME, UUID(int=1))),
    ("subscriptions", ()),
    ("subscription", (BALANCES,)),
    ("outbox", ()),
]
POSTS = [
    ("saga-resume", (WELCOME, UUID(int=1))),
    ("subscription-pause", (BALANCES,)),
    ("subscription-resume", (BALANCES,)),
    *(
        ("replay", (BALANCES, what))
        for what in ("start", "verify", "pause", "resume", "exchange", "cancel", "rollback")
    ),
]


@pytest.mark.parametrize(("name", "arguments"), PAGES)
def test_only_who_may_look_gets_a_page(name: str, arguments: tuple[Any, ...], client: Client) -> None:
    address = reverse(f"operations:{name}", args=arguments)
    assert client.get(address).status_code == 302
    assert with_permissions("clerk").get(address).status_code == 403


@pytest.mark.parametrize(("name", "arguments"), POSTS)
def test_acts_are_posted_by_those_who_may(
    name: str, arguments: tuple[Any, ...], viewer: Client, operator: Client
) -> None:
    address = reverse(f"operations:{name}", args=arguments)
    assert operator.get(address).status_code == 405
    assert viewer.post(address).status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"))
    assert strict.post(address).status_code == 403
    assert not LogEntry.objects.exists()
    assert not Replay.objects.exists()
    assert not Checkpoint.objects.filter(state="paused").exists()


@pytest.mark.parametrize(("name", "arguments"), PAGES)
def test_looking_changes_nothing(name: str, arguments: tuple[Any, ...], operator: Client, failed: UUID) -> None:
    def all_there_is() -> list[Any]:
        return [list(model.objects.values()) for model in (SagaInstance, SagaStep, Timer, Checkpoint, Replay, Delivery)]

    before = all_there_is()
    operator.get(reverse(f"operations:{name}", args=arguments), {"stuck": "1", "what": "start"})
    assert all_there_is() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 19, "-1", "x", ""])
def test_a_page_of_sagas_before_any_number_is_a_page(viewer: Client, failed: UUID, number: str) -> None:
    assert str(failed) in page(viewer, "sagas", before=number)


def test_sagas_are_listed_and_found(viewer: Client, failed: UUID) -> None:
    fine = opens_account()
    settle()
    both = page(viewer, "sagas")
    assert str(failed) in both
    assert str(fine) in both
    assert "1 saga</a> failed, missed the deadline, or has a dead letter" in both
    for asked in ({"stuck": "1"}, {"state": "FAILED"}, {"key": str(failed)}, {"key": str(failed), "saga": WELCOME}):
        found = page(viewer, "sagas", **asked)
        assert str(failed) in found
        assert str(fine) not in found
    assert "The account was closed." in page(viewer, "sagas", stuck="1")
    assert "There are no such sagas." in page(viewer, "sagas", key="nonsense")
    assert "There are no such sagas." in page(viewer, "sagas", saga="orders.OrderFulfilment")


def test_a_long_list_has_pages(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventing.operations.sagas.A_PAGE", 2)
    for number in range(5):
        SagaInstance.objects.create(saga=WELCOME, key=UUID(int=number + 1), state="WAITING", memory={})
    newest = page(viewer, "sagas", state="WAITING")
    assert [str(UUID(int=number)) in newest for number in (5, 4, 3)] == [True, True, False]
    before = SagaInstance.objects.get(key=UUID(int=4)).pk
    assert f"state=WAITING&amp;before={before}" in newest
    older = page(viewer, "sagas", state="WAITING", before=before)
    assert [str(UUID(int=number)) in older for number in (4, 3, 2, 1)] == [False, True, True, False]


def test_a_sagas_page_says_what_it_did_and_what_helps(viewer: Client, failed: UUID) -> None:
    shown = page(viewer, "saga", WELCOME, failed)
    for part in (
        "and waits for a person: The account was closed.",
        "What helps: resume the saga.",
        "bank.account_opened",
        "eventing.PayIn",
        "Takes the permission eventing.resume_sagainstance.",
    ):
        assert part in shown
    assert viewer.get(reverse("operations:saga", args=[WELCOME, uuid4()])).status_code == 404


def test_a_refusal_and_a_late_event_are_told(viewer: Client) -> None:
    account = opens_account()
    closes_account(account)
    settle()
    shown = page(viewer, "saga", WELCOME, account)
    assert "refused" in shown
    assert "This account isn&#x27;t open." in shown
    other = opens_account()
    pays_in(other, 10, 1)
    settle()
    assert "late: nothing was done" in page(viewer, "saga", WELCOME, other)


def test_a_saga_is_resumed_from_its_page(operator: Client, failed: UUID) -> None:
    assert "Resume</button>" in page(operator, "saga", WELCOME, failed)
    assert posted(operator, "saga-resume", WELCOME, failed) == [
        f"{WELCOME} is resumed: it hears of it as soon as it has seen everything else."
    ]
    assert noted() == [{"act": "resumed", "state": "FAILED", "letters": 0}]
    settle()
    assert "a person resumed it" in page(operator, "saga", WELCOME, failed)


def test_what_has_ended_well_can_not_be_resumed(operator: Client) -> None:
    account = opens_account()
    pays_in(account, 10)
    settle()
    shown = page(operator, "saga", WELCOME, account)
    assert "It has ended: COMPLETED." in shown
    assert "disabled" in shown


def test_a_saga_that_the_program_does_not_define_any_more_is_shown(operator: Client) -> None:
    key = uuid4()
    SagaInstance.objects.create(saga="gone.Saga", key=key, state="WAITING", memory={"id": str(key), "answer": 42})
    assert "The program doesn&#x27;t define this saga any more" in page(operator, "saga", "gone.Saga", key)
    assert "gone.Saga" in page(operator, "sagas")


def test_a_page_refreshes_only_its_part(viewer: Client, failed: UUID) -> None:
    for name, arguments in PAGES:
        whole = reverse(f"operations:{name}", args=[*arguments[:1], failed] if name == "saga" else arguments)
        part = viewer.get(whole, headers={"HX-Request": "true"}).content.decode()
        assert "<html" not in part
        assert "<html" in viewer.get(whole).content.decode()


def test_subscriptions_say_how_far_behind_they_are(viewer: Client) -> None:
    opens_account()
    settle()
    opens_account()
    sum(relay_all())
    shown = page(viewer, "subscriptions")
    assert BALANCES in shown
    assert "orders.OrderFulfilment" in shown
    one = page(viewer, "subscription", BALANCES)
    assert "running" in one
    assert f"of {checkpoints.head()}" in one
    assert viewer.get(reverse("operations:subscription", args=["no.Such"])).status_code == 404


def test_a_subscription_is_paused_and_goes_on(operator: Client) -> None:
    assert "It isn&#x27;t paused." in page(operator, "subscription", WELCOME)
    assert posted(operator, "subscription-pause", WELCOME) == [
        f"{WELCOME} is paused: 2 partitions stop after the batch that is under way."
    ]
    assert "It is paused." in page(operator, "subscription", WELCOME)
    assert posted(operator, "subscription-resume", WELCOME) == [f"{WELCOME} goes on, in 2 partitions."]
    assert noted() == [
        {"act": "paused", "subscription": WELCOME, "partitions": 2},
        {"act": "resumed", "subscription": WELCOME, "partitions": 2},
    ]
    posted(operator, "subscription-resume", WELCOME)
    assert len(noted()) == 2


def test_a_read_model_is_replayed_compared_and_exchanged(operator: Client, balances: ProjectionSubscription) -> None:
    account = opens_account()
    settle()
    Balance.objects.update(amount=999)
    assert "Only compare" in page(operator, "subscription", BALANCES)
    (said,) = posted(operator, "replay", BALANCES, "start")
    assert said.startswith(f"{BALANCES}: the workers rebuild it beside the live one")
    shown = page(operator, "subscription", BALANCES)
    assert "building" in shown
    assert "It isn&#x27;t compared yet." in shown

    while work_on(balances, budget=60):
        pass
    shown = page(operator, "subscription", BALANCES)
    assert "Compared: 1 row differs." in shown
    assert Balance.objects.get().amount == 999

    posted(operator, "replay", BALANCES, "exchange")
    while work_on(balances, budget=60):
        pass
    assert Balance.objects.get(account_id=account).amount == 5
    assert "done" in page(operator, "subscription", BALANCES)

    posted(operator, "replay", BALANCES, "rollback")
    assert Balance.objects.get(account_id=account).amount == 999
    assert [each["act"] for each in noted()] == ["started a replay", "exchanged", "rolled back a replay"]


def test_rows_that_may_tell_of_persons_are_hidden_from_those_who_may_not_see_them(
    operator: Client, balances: ProjectionSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens_account()
    settle()
    Balance.objects.update(amount=98765)
    posted(operator, "replay", BALANCES, "verify")
    while work_on(balances, budget=60):
        pass
    assert "98765" in page(operator, "subscription", BALANCES)
    monkeypatch.setattr(ProjectionSubscription, "tells_of_persons", True)
    assert "98765" not in page(operator, "subscription", BALANCES)
    assert "[hidden]" in page(operator, "subscription", BALANCES)
    assert "98765" in page(with_permissions("boss", *LOOKS, "view_personal_data"), "subscription", BALANCES)


def test_a_replay_can_be_given_up_and_what_can_not_be_done_is_said(
    operator: Client, balances: ProjectionSubscription
) -> None:
    opens_account()
    settle()
    assert posted(operator, "replay", BALANCES, "exchange") == [f"There is no replay of {BALANCES} that is compared."]
    posted(operator, "replay", BALANCES, "start")
    posted(operator, "replay", BALANCES, "pause")
    assert "Go on" in page(operator, "subscription", BALANCES)
    posted(operator, "replay", BALANCES, "resume")
    posted(operator, "replay", BALANCES, "cancel")
    assert Replay.objects.get().state == "cancelled"
    assert replay.unfinished() == []


@pytest.mark.parametrize(("name", "what"), [(WELCOME, "start"), ("no.Such", "start"), (BALANCES, "nonsense")])
def test_what_is_not_there_can_not_be_replayed(operator: Client, name: str, what: str) -> None:
    assert operator.post(reverse("operations:replay", args=[name, what])).status_code == 404


def test_the_outbox_shows_what_waits_and_what_went_wrong(viewer: Client) -> None:
    opens_account()
    shown = page(viewer, "outbox")
    assert "What waits, oldest first" in shown
    assert "The relay ran into nothing." in shown
    RelayFailure.objects.create(retries=3, error="OperationalError: gone", failed_at="2026-11-23T08:00:00Z")
    settle()
    RelayFailure.objects.get_or_create(
        pk=1, defaults={"retries": 3, "error": "OperationalError: gone", "failed_at": "2026-11-23T08:00:00Z"}
    )
    shown = page(viewer, "outbox")
    assert "The relay failed 3 times" in shown
    assert "OperationalError: gone" in shown
    assert "bank.account_opened" in shown
    assert "What waits" not in shown
    assert "<form" not in shown.partition('id="live"')[2]
