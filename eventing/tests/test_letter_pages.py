"""The pages of dead letters, as operators and viewers get them."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from eventing import audit, letter_jobs, store
from eventing.letters import Filter
from eventing.models import Attempt, Delivery, JobLetter, LetterGroup, LetterJob, StoredEvent
from eventing.subscriptions import Subscription
from eventing.tests.bank import projections
from eventing.tests.bank.customers import everything_is_relayed, opens_account, stream_of
from eventing.tests.bank.events import OwnerMoved
from eventing.tests.conftest import settled
from tests.clients import with_permissions

pytestmark = pytest.mark.django_db(transaction=True)

Poison = Callable[[int], list[UUID]]
Antidote = Callable[[], None]


@pytest.fixture
def viewer() -> Client:
    return with_permissions("viewer", "view_delivery")


@pytest.fixture
def operator() -> Client:
    return with_permissions("operator", "view_delivery", "retry_delivery", "skip_delivery")


def page(client: Client, name: str, *arguments: Any, **asked: Any) -> str:
    """What a page says, in one line."""
    answer = client.get(reverse(f"operations:{name}", args=arguments), asked)
    assert answer.status_code == 200
    return unescape(" ".join(answer.content.decode().split()))


def posted(client: Client, name: str, *arguments: Any, **fields: Any) -> str:
    """What the page says after something was done."""
    here = reverse("operations:letters")
    answer: Any = client.post(reverse(f"operations:{name}", args=arguments), {"next": here, **fields}, follow=True)
    assert answer.redirect_chain == [(here, 302)]
    (message,) = answer.context["messages"]
    return str(message)


def dead() -> list[int]:
    return list(Delivery.objects.filter(state="dead").order_by("pk").values_list("pk", flat=True))


def group() -> LetterGroup:
    return LetterGroup.objects.get()


def noted() -> list[dict[str, Any]]:
    return [audit.told(entry) for entry in LogEntry.objects.order_by("pk")]


PAGES: list[tuple[str, Callable[[], list[int]]]] = [
    ("letters", list),
    ("letter-list", list),
    ("letter", lambda: dead()[:1]),
]
POSTS: list[tuple[str, Callable[[], list[int]]]] = [
    ("retry-letter", lambda: dead()[:1]),
    ("retry-sequence", lambda: dead()[:1]),
    ("skip-letter", lambda: dead()[:1]),
    ("retry-all", list),
    ("skip-all", list),
    ("cancel-job", lambda: [LetterJob.objects.get().pk]),
]


def all_there_is() -> list[Any]:
    kept = (Delivery, Attempt, LetterGroup, LetterJob, JobLetter, LogEntry)
    return [list(model.objects.order_by("pk").values()) for model in kept]


@pytest.mark.parametrize(("name", "arguments"), PAGES)
def test_only_who_may_look_gets_a_page(
    name: str, arguments: Callable[[], list[int]], client: Client, poison: Poison
) -> None:
    poison(1)
    address = reverse(f"operations:{name}", args=arguments())
    assert client.get(address).status_code == 302
    assert with_permissions("clerk").get(address).status_code == 403


@pytest.mark.parametrize(("name", "arguments"), POSTS)
def test_acts_are_posted_by_those_who_may(
    name: str, arguments: Callable[[], list[int]], viewer: Client, operator: Client, poison: Poison
) -> None:
    poison(2)
    letter_jobs.start(Filter(ids=(dead()[1],)), who=User.objects.get(username="operator"))
    address = reverse(f"operations:{name}", args=arguments())
    said = {"reason": "x", "signature": group().pk}
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"))
    before = all_there_is()
    assert operator.get(address, said).status_code == 405
    assert viewer.post(address, said).status_code == 403
    assert strict.post(address, said).status_code == 403
    assert all_there_is() == before


@pytest.mark.parametrize(("name", "arguments"), PAGES)
def test_looking_changes_nothing(
    name: str, arguments: Callable[[], list[int]], operator: Client, poison: Poison
) -> None:
    poison(1)
    before = all_there_is()
    operator.get(reverse(f"operations:{name}", args=arguments()), {"reason": "x", "retry": "1"})
    assert all_there_is() == before


@pytest.mark.parametrize(("name", "arguments"), PAGES)
def test_a_page_refreshes_only_its_part(
    name: str, arguments: Callable[[], list[int]], viewer: Client, poison: Poison
) -> None:
    poison(1)
    address = reverse(f"operations:{name}", args=arguments())
    assert "<html" not in viewer.get(address, headers={"HX-Request": "true"}).content.decode()
    assert "<html" in viewer.get(address).content.decode()


def test_groups_come_first(viewer: Client, poison: Poison) -> None:
    assert "Nothing has failed." in page(viewer, "letters")
    poison(3)
    shown = page(viewer, "letters")
    for part in (
        "3 dead",
        "I can't digest this.",
        "eventing.Balances at bank.money_paid_in, in <code>eventing.tests.bank.projections.Balances.apply</code>",
        f"?signature={group().pk}",
    ):
        assert part in shown


def test_letters_are_listed_by_what_fits(viewer: Client, poison: Poison, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(3)
    first = Delivery.objects.get(pk=dead()[0])
    for asked, count in (
        ({}, "3 letters"),
        ({"signature": group().pk, "state": "dead"}, "3 letters"),
        ({"sequence": first.sequence}, "1 letter<"),
        ({"event_type": "bank.money_paid_in", "subscription": first.subscription}, "3 letters"),
        ({"state": "waiting"}, "No open letters fit."),
        ({"signature": "nonsense"}, "No open letters fit."),
    ):
        assert count in page(viewer, "letter-list", **asked)
    assert viewer.get(reverse("operations:letter-list"), {"sequence": "\0"}).status_code == 404
    monkeypatch.setattr("eventing.operations.letters.A_PAGE", 2)
    assert f"?signature={group().pk}&page=2" in page(viewer, "letter-list", signature=group().pk)
    assert "Page 2 of 2" in page(viewer, "letter-list", page=2)


def test_who_may_not_act_sees_why(viewer: Client, poison: Poison) -> None:
    poison(1)
    for shown in (page(viewer, "letter-list", signature=group().pk), page(viewer, "letter", dead()[0])):
        assert "Takes the permission eventing.retry_delivery." in shown
        assert "Takes the permission eventing.skip_delivery." in shown
        assert '<form method="post" action="/admin/operations/' not in shown


def test_a_letters_page_tells_all_that_is_known_of_it(viewer: Client, poison: Poison, balances: Subscription) -> None:
    (account,) = poison(1)
    Attempt.objects.filter(number=2).delete()  # its worker died
    shown = page(viewer, "letter", dead()[0])
    for part in (
        "It failed 8 times, and waits for a person.",
        f"1 later event of {account} waits behind it.",
        '"amount": 666',
        "Attempt 8: ValueError: I can't digest this.",
        "Attempt 2 never ended: its worker died.",
        "eventing/tests/bank/projections.py",
        "Traceback (most recent call last)",
        "Copy the traceback",
        "Behind it, in order",
    ):
        assert part in shown
    assert viewer.get(reverse("operations:letter", args=[0])).status_code == 404


def test_what_an_event_tells_of_a_person_is_hidden_from_who_may_not_see_it(viewer: Client) -> None:
    account = opens_account()
    store.append(stream_of(account), [OwnerMoved(account_id=account, address="1 Ink Lane")], expected=1)
    everything_is_relayed()
    letter = Delivery.objects.create(
        subscription="eventing.Balances",
        partition=0,
        sequence=str(account),
        event=StoredEvent.objects.get(type="bank.owner_moved"),
        position=2,
        state="dead",
    )
    assert "1 Ink Lane" not in page(viewer, "letter", letter.pk)
    assert "[hidden]" in page(viewer, "letter", letter.pk)
    boss = with_permissions("boss", "view_delivery", "view_personal_data")
    assert "1 Ink Lane" in page(boss, "letter", letter.pk)


def test_what_an_error_says_is_text_and_no_markup(viewer: Client, poison: Poison) -> None:
    poison(1)
    markup = "<script>alert(1)</script>"
    Delivery.objects.update(error=markup)
    Attempt.objects.update(error=markup, traceback=markup)
    LetterGroup.objects.update(message=markup)
    for name, arguments in PAGES:
        address = reverse(f"operations:{name}", args=arguments())
        shown = viewer.get(address).content.decode()
        assert markup not in shown
        assert "&lt;script&gt;" in shown


def test_one_letter_is_retried_first(
    operator: Client, balances: Subscription, poison: Poison, antidote: Antidote
) -> None:
    poison(2)
    antidote()
    first, second = dead()
    assert f"/letters/{first}/retry" in page(operator, "letter-list", signature=group().pk)  # the oldest of them
    assert posted(operator, "retry-letter", first) == f"Letter {first} is tried again now."
    settled(balances)
    assert dead() == [second]
    assert "It is settled." in page(operator, "letter", first)
    assert posted(operator, "retry-letter", first) == "It is settled, or hasn't failed: it waits behind another."
    assert noted() == [{"act": "retried", "filter": {"ids": [first]}, "letters": 1, "letter_ids": [first]}]


def test_a_letters_sequence_is_retried(
    operator: Client, balances: Subscription, poison: Poison, antidote: Antidote
) -> None:
    (account,) = poison(1)
    antidote()
    said = posted(operator, "retry-sequence", dead()[0])
    assert said == f"1 of {account} tried again now; what waits behind follows in order."
    settled(balances)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}


def test_a_letter_is_skipped_for_a_reason(operator: Client, balances: Subscription, poison: Poison) -> None:
    poison(1)
    (letter,) = dead()
    assert "The reason is empty" in posted(operator, "skip-letter", letter, reason=" ")
    assert dead() == [letter]
    assert "is skipped" in posted(operator, "skip-letter", letter, reason="Paid by mistake")
    settled(balances)
    assert "Given up" in page(operator, "letter", letter)
    assert "Paid by mistake" in page(operator, "letter", letter)
    assert [(each["act"], each["reason"]) for each in noted()] == [("skipped", "Paid by mistake")]


def test_a_group_is_retried_gradually_with_its_progress(
    operator: Client, balances: Subscription, poison: Poison, antidote: Antidote
) -> None:
    poison(8)
    antidote()
    signature = group().pk
    assert "Retry all 8 gradually" in page(operator, "letter-list", signature=signature)
    said = posted(operator, "retry-all", signature=signature)
    job = LetterJob.objects.get()
    assert said == f"Job {job.pk} tries 8 letters again, gradually."
    shown = page(operator, "letter-list", signature=signature)
    assert "0 of 8 letters, wave 1: 0 succeeded, 0 failed again, 0 settled by somebody else, 1 being tried" in shown
    assert "Cancel the job" in shown
    assert "is at some of these letters" in posted(operator, "retry-all", signature=signature)

    while LetterJob.objects.filter(state="running").exists():
        settled(balances)
        letter_jobs.tend()
    shown = page(operator, "letter-list", signature=signature)
    assert "8 of 8 letters, wave 3: 8 succeeded" in shown
    assert "No open letters fit." in shown
    assert "8 of 8; 0 failed again" in page(operator, "letters")


def test_a_job_that_stopped_says_why_and_one_can_be_cancelled(
    operator: Client, balances: Subscription, poison: Poison
) -> None:
    poison(3)
    posted(operator, "retry-all", signature=group().pk)
    settled(balances)
    letter_jobs.tend()
    why = "1 of the 1 in wave 1 failed again, which is more than 20%."
    assert why in page(operator, "letter-list", signature=group().pk)
    assert why in page(operator, "letters")
    posted(operator, "retry-all", signature=group().pk)
    job = LetterJob.objects.latest("pk")
    assert posted(operator, "cancel-job", job.pk).startswith(f"Job {job.pk} is cancelled")
    assert posted(operator, "cancel-job", job.pk) == f"Job {job.pk} has ended: it's cancelled."


def test_what_an_error_quotes_is_shown_to_those_alone_who_may_see_personal_data(
    viewer: Client, poison: Poison, monkeypatch: pytest.MonkeyPatch
) -> None:
    officer = with_permissions("officer", "view_delivery", "view_personal_data")
    told = "No such street as 'Thistledown Mews', says ada@example.org."
    monkeypatch.setattr(projections, "indigestion", lambda: ValueError(told))
    poison(1)
    (letter,) = dead()
    for name, arguments in (("letter", [letter]), ("letter-list", [])):
        assert told in page(officer, name, *arguments)
        shown = page(viewer, name, *arguments)
        assert "Thistledown" not in shown
        assert "ada@" not in shown
        assert "ValueError: No such street as <quoted>, says <address>" in shown
    assert "eventing/tests/bank/projections.py" in page(viewer, "letter", letter)
    assert "raise indigestion()" in page(viewer, "letter", letter)


def test_no_more_is_skipped_than_the_page_showed(operator: Client, balances: Subscription, poison: Poison) -> None:
    poison(3)
    first = Delivery.objects.get(pk=dead()[0])
    assert f'name="sequence" value="{first.sequence}"' in page(operator, "letter-list", sequence=first.sequence)
    assert posted(operator, "skip-all", sequence=first.sequence, reason="x", at_most=1).startswith("1 skipped")
    assert len(dead()) == 2
    assert posted(operator, "skip-all", reason="x", at_most=1).startswith("2 letters fit by now, not 1.")
    assert posted(operator, "skip-all", reason="x").startswith("The form doesn't say how many")
    assert posted(operator, "skip-all", reason="N\0UL", at_most=2).startswith("The reason has characters")
    assert len(dead()) == 2
    assert noted()[0]["filter"] == {"sequence": first.sequence}
