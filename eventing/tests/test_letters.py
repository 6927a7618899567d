"""What operators do about letters, one at a time and gradually, and what is kept of each failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models.functions import Now

from eventing import audit, deliveries, letter_jobs, letters, replay
from eventing.advance import advance
from eventing.domain import Rejected
from eventing.effects import EffectSubscription, perform_due
from eventing.letters import Filter
from eventing.models import Attempt, Delivery, JobLetter, LetterGroup, LetterJob
from eventing.projections import ProjectionSubscription
from eventing.signature import normalised, signature_of
from eventing.subscriptions import Subscription, subscription_named
from eventing.tests.bank import effects, projections
from eventing.tests.bank.customers import closes_account, everything_is_relayed, opens_account, pays_in
from eventing.tests.bank.projections import POISON
from eventing.tests.conftest import InThreads, Program, settled
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clerk() -> User:
    return User.objects.create_user("clerk")


def states() -> dict[str, int]:
    found = list(Delivery.objects.values_list("state", flat=True))
    return {state: found.count(state) for state in set(found)}


def noted() -> list[tuple[str, dict[str, Any]]]:
    return [(entry.user.get_username(), audit.told(entry)) for entry in LogEntry.objects.order_by("pk")]


@pytest.mark.parametrize(
    ("message", "normal"),
    [
        ("There's no charge 'ch_1' of 12.50 GBP", "There's no charge <quoted> of <number> GBP"),
        ("account 0197a000-0000-7000-8000-000000000001 is closed", "account <id> is closed"),
        ("attempt 3 of 8 at 10:45:02", "attempt <number> of <number> at <number>"),
        ("ada@example.com isn't known\nand more", "<address> isn't known"),
        ("x" * 400, "x" * 300),
    ],
)
def test_what_differs_from_letter_to_letter_is_taken_out_of_the_message(message: str, normal: str) -> None:
    assert normalised(message) == normal


def test_a_signature_names_the_innermost_place_in_our_own_code() -> None:
    def fails() -> None:
        json.loads("{")  # the library's frames are inside of ours

    with pytest.raises(ValueError, match="Expecting") as raised:
        fails()
    signature = signature_of(raised.value, subscription="a", event_type="b")
    assert signature.exception == "json.decoder.JSONDecodeError"
    assert signature.frame.endswith(
        "test_letters.test_a_signature_names_the_innermost_place_in_our_own_code.<locals>.fails"
    )


def test_letters_that_failed_for_the_same_reason_are_one_group(
    balances: Subscription, poison: Callable[[int], list[UUID]]
) -> None:
    poison(3)
    (group,) = letters.groups("account_id")
    assert (group.dead, group.retrying, group.affected, group.behind) == (3, 0, 3, 3)
    assert (group.subscription, group.event_type) == ("eventing.Balances", "bank.money_paid_in")
    assert group.failures == 3 * balances.attempts
    assert group.frame.startswith("eventing.tests.bank.projections.")
    assert group.first_seen < group.last_seen


def test_each_failed_attempt_is_kept_with_its_worker_and_traceback(
    balances: Subscription, poison: Callable[[int], list[UUID]]
) -> None:
    poison(1)
    letter = Delivery.objects.get(state="dead")
    failures = letters.failures_of(letter, with_personal_data=True)
    assert [each.number for each in failures] == list(range(1, balances.attempts + 1))
    assert all("Traceback" in each.traceback and each.worker for each in failures)
    assert letter.failing_since is not None
    assert letter.failing_since <= Attempt.objects.earliest("pk").failed_at


def test_an_attempt_that_never_ended_shows_as_such(poison: Callable[[int], list[UUID]]) -> None:
    poison(1)
    letter = Delivery.objects.get(state="dead")
    Attempt.objects.filter(number__in=(2, 3)).delete()
    shown = letters.failures_of(letter, with_personal_data=True)
    assert [each.number for each in shown] == list(range(1, 9))
    assert [each.number for each in shown if each.failed_at is None] == [2, 3]


def test_retrying_one_lets_it_go_on_and_says_who_did_it(
    balances: Subscription, poison: Callable[[int], list[UUID]], antidote: Callable[[], None], clerk: User
) -> None:
    poison(2)
    antidote()
    first, second = Delivery.objects.filter(state="dead").order_by("position")
    assert letters.retry(Filter(ids=(first.pk,)), who=clerk) == 1
    settled(balances)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("done", "dead")
    assert noted() == [
        ("clerk", {"act": "retried", "filter": {"ids": [first.pk]}, "letters": 1, "letter_ids": [first.pk]})
    ]
    assert LogEntry.objects.get().object_id == str(first.pk)


def test_skipping_takes_a_reason_and_lets_the_next_of_the_sequence_go_on(
    balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    poison(1)
    letter = Delivery.objects.get(state="dead")
    for reason in ("", "  ", "x" * 1_001):
        with pytest.raises(Rejected, match="The reason"):
            letters.skip(Filter(ids=(letter.pk,)), reason=reason, who=clerk)
    assert not LogEntry.objects.exists()
    assert letters.skip(Filter(sequence=letter.sequence), reason="Paid by mistake", who=clerk) == 1
    settled(balances)
    assert states() == {"skipped": 1, "done": 1}
    assert noted()[0][1]["reason"] == "Paid by mistake"


def test_a_filter_takes_no_more_than_what_fits(poison: Callable[[int], list[UUID]]) -> None:
    poison(2)
    (group,) = letters.groups("account_id")
    assert Filter(signature=group.signature, state="dead").letters().count() == 2
    assert Filter(subscription="eventing.Balances", event_type="bank.money_paid_in").letters().count() == 2
    for other in (Filter(signature="no"), Filter(event_type="no"), Filter(state="waiting"), Filter(ids=(0,))):
        assert not other.letters().exists()


def wave_sizes(job: LetterJob) -> list[int]:
    return [job.letters.filter(wave=wave).count() for wave in range(1, job.wave + 1)]


def driven(job: LetterJob, balances: Subscription) -> LetterJob:
    """What sweeps and workers make of a job."""
    while LetterJob.objects.filter(pk=job.pk, state="running").exists():
        settled(balances)
        letter_jobs.tend()
    job.refresh_from_db()
    return job


def test_a_job_tries_letters_again_gradually(
    balances: Subscription, poison: Callable[[int], list[UUID]], antidote: Callable[[], None], clerk: User
) -> None:
    poison(31)
    antidote()
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    assert letter_jobs.progress(job).released == 1
    letter_jobs.tend()
    assert letter_jobs.progress(job).released == 1  # it hasn't been tried yet
    job = driven(job, balances)
    assert job.state == "done"
    assert wave_sizes(job) == [1, 2, 5, 20, 3]
    assert letter_jobs.progress(job).succeeded == 31
    assert states() == {"done": 62}
    assert [told["act"] for _, told in noted()] == ["began to retry"]
    assert noted()[0][1]["letters"] == 31


def test_a_job_stops_when_too_many_fail_again_and_leaves_the_others_alone(
    balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    poison(10)
    job = driven(letter_jobs.start(Filter(subscription=balances.name), who=clerk), balances)
    assert (job.state, job.wave) == ("stopped", 1)
    assert job.said.startswith("1 of the 1 in wave 1 failed again, which is more than 20%.")
    found = letter_jobs.progress(job)
    assert (found.failed, found.waiting) == (1, 9)
    assert Delivery.objects.filter(state="dead", attempts=balances.attempts).count() == 10


def test_a_job_goes_on_while_no_more_fail_again_than_it_tolerates(
    balances: Subscription,
    poison: Callable[[int], list[UUID]],
    monkeypatch: pytest.MonkeyPatch,
    clerk: User,
) -> None:
    hopeless = poison(8)[4]
    handle = ProjectionSubscription.handle

    def handle_but_one(self: Any, records: Any, partition: int) -> int:
        if any(record.stream.id == str(hopeless) for record in records):
            raise ValueError("Still not.")
        return handle(self, records, partition)

    monkeypatch.setattr(projections, "poisoned", False)
    monkeypatch.setattr(ProjectionSubscription, "handle", handle_but_one)
    job = driven(letter_jobs.start(Filter(subscription=balances.name), who=clerk), balances)
    assert job.state == "done"  # one of the five in the third wave is no more than a fifth
    assert (letter_jobs.progress(job).succeeded, letter_jobs.progress(job).failed) == (7, 1)


def test_a_letter_that_arrives_while_a_job_runs_is_not_swept_in(
    balances: Subscription, poison: Callable[[int], list[UUID]], antidote: Callable[[], None], clerk: User
) -> None:
    poison(3)
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    late = opens_account()
    Delivery.objects.create(
        subscription=balances.name,
        partition=0,
        sequence=f"account-{late}",
        event_id=uuid4(),
        position=10_000,
        state="dead",
        error="ValueError: late",
    )
    antidote()
    job = driven(job, balances)
    assert letter_jobs.progress(job).total == 3
    assert Delivery.objects.get(position=10_000).state == "dead"


def test_a_letter_that_somebody_else_settles_meanwhile_is_left_to_him(
    balances: Subscription, poison: Callable[[int], list[UUID]], antidote: Callable[[], None], clerk: User
) -> None:
    poison(3)
    antidote()
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    last = Delivery.objects.filter(state="dead").latest("position")
    letters.skip(Filter(ids=(last.pk,)), reason="By hand", who=clerk)
    job = driven(job, balances)
    assert (job.state, letter_jobs.progress(job).settled) == ("done", 1)
    assert Delivery.objects.get(pk=last.pk).state == "skipped"


def test_a_cancelled_job_lets_no_more_go(
    balances: Subscription, poison: Callable[[int], list[UUID]], antidote: Callable[[], None], clerk: User
) -> None:
    poison(3)
    antidote()
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    letter_jobs.cancel(job, who=clerk)
    settled(balances)
    letter_jobs.tend()
    assert states()["dead"] == 2
    with pytest.raises(Rejected, match="has ended: it's cancelled"):
        letter_jobs.cancel(job, who=clerk)
    assert letter_jobs.start(Filter(subscription=balances.name), who=clerk).pk != job.pk


def test_two_people_cant_begin_jobs_about_the_same_letters(
    in_threads: InThreads, balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    poison(3)
    refused: list[str] = []

    def begin() -> None:
        try:
            letter_jobs.start(Filter(subscription=balances.name), who=clerk)
        except Rejected as refusal:
            refused.append(str(refusal))

    in_threads(begin, begin)
    assert LetterJob.objects.count() == 1
    assert len(refused) == 1
    assert "is at some of these letters" in refused[0]


def test_whoever_tends_at_the_same_time_lets_no_wave_go_twice(
    in_threads: InThreads,
    balances: Subscription,
    poison: Callable[[int], list[UUID]],
    antidote: Callable[[], None],
    clerk: User,
) -> None:
    poison(8)
    antidote()
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    while LetterJob.objects.filter(pk=job.pk, state="running").exists():
        settled(balances)
        in_threads(letter_jobs.tend, letter_jobs.tend, letter_jobs.tend)
    job.refresh_from_db()
    assert wave_sizes(job) == [1, 2, 5]
    assert JobLetter.objects.filter(state="succeeded").count() == 8


def test_a_skipped_job_of_an_effect_is_taken_up_again_by_its_number(clerk: User) -> None:
    farewell = subscription_named("eventing.farewell")
    assert isinstance(farewell, EffectSubscription)
    closes_account(opens_account())
    everything_is_relayed()
    advance(farewell, 0)
    Delivery.objects.update(state="dead", error="ValueError: The post office is closed.", attempts=3)
    (letter,) = Delivery.objects.all()
    letters.skip(Filter(ids=(letter.pk,)), reason="We thought that nobody waits for it.", who=clerk)
    assert letters.retry(Filter(subscription=farewell.name), who=clerk) == 0  # not without being named

    assert letters.retry(Filter(ids=(letter.pk,)), who=clerk) == 1
    effects.post = lambda event, delivery: None
    perform_due(farewell, budget=1)
    assert states() == {"done": 1}
    assert [told["letter_ids"] for _, told in noted()] == [[letter.pk], [letter.pk]]


def test_a_skipped_event_of_a_projection_is_never_taken_up_again(
    balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    poison(1)
    (letter,) = Delivery.objects.filter(state="dead")
    letters.skip(Filter(ids=(letter.pk,)), reason="It's a test.", who=clerk)
    settled(balances)  # later ones of its sequence have gone on
    assert letters.retry(Filter(ids=(letter.pk,)), who=clerk) == 0


def test_a_worker_that_is_killed_at_a_letter_of_a_job_only_holds_the_job_up(clerk: User, program: Program) -> None:
    farewell = subscription_named("eventing.farewell")
    assert isinstance(farewell, EffectSubscription)

    def fail(event: Any, delivery: Any) -> None:
        raise ValueError("The post office is closed.")

    effects.post = fail
    for _ in range(3):
        closes_account(opens_account())
    everything_is_relayed()
    while advance(farewell, 0) or perform_due(farewell, budget=10):
        pass
    assert states() == {"dead": 3}

    job = letter_jobs.start(Filter(subscription=farewell.name), who=clerk)
    worker = program("eventing.tests.bank", "post_slowly", EVENTING_LEASE_SECONDS="1")
    assert worker.stdout
    assert worker.stdout.readline() == "posting\n"
    worker.kill()
    worker.wait()
    letter_jobs.tend()
    assert letter_jobs.progress(job).released == 1
    assert letter_jobs.progress(job).waiting == 2

    effects.post = lambda event, delivery: None

    def ended() -> bool:
        perform_due(farewell, budget=0)
        letter_jobs.tend()
        return not LetterJob.objects.filter(state="running").exists()

    assert eventually(ended)
    assert (wave_sizes(LetterJob.objects.get()), letter_jobs.progress(job).succeeded) == ([1, 2], 3)


def test_a_letter_that_kills_every_worker_has_failed_again(
    balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    poison(2)
    job = letter_jobs.start(Filter(subscription=balances.name), who=clerk)
    for _ in range(balances.attempts):
        assert deliveries.claim(balances)  # and the worker that took it dies
        letter_jobs.tend()
        assert letter_jobs.progress(job).released == 1
        Delivery.objects.filter(state="waiting", attempts__gt=0).update(due_at=Now())  # its lease is over
    job = driven(job, balances)
    assert (job.state, letter_jobs.progress(job).failed, letter_jobs.progress(job).waiting) == ("stopped", 1, 1)
    assert "never ended" in Delivery.objects.filter(state="dead").earliest("position").error


def test_a_job_about_nothing_or_with_a_senseless_tolerance_is_refused(
    balances: Subscription, poison: Callable[[int], list[UUID]], clerk: User
) -> None:
    with pytest.raises(Rejected, match="No open letters fit"):
        letter_jobs.start(Filter(), who=clerk)
    poison(1)
    with pytest.raises(Rejected, match="from 0 to 1, not 2"):
        letter_jobs.start(Filter(), who=clerk, tolerance=2)
    assert not LetterJob.objects.exists()


def test_what_failed_in_a_replay_is_nobodys_letter(balances: Subscription) -> None:
    account = opens_account()
    pays_in(account, POISON)
    everything_is_relayed()
    with pytest.raises(replay.Failed):
        replay.rebuild(replay.projection_named(balances.name))
    assert not Attempt.objects.exists()
    assert not LetterGroup.objects.exists()


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("a NUL \0 in it", r"ValueError: a NUL \x00 in it"),
        ("half \ud83d a character", r"ValueError: half \ud83d a character"),
        ("[/bold] [red", "ValueError: [/bold] [red"),
        ("x" * 200_000, "ValueError: " + "x" * 1_988),
    ],
    ids=["a NUL", "a lone surrogate", "brackets", "a word without end"],
)
def test_whatever_an_error_says_its_event_is_parked_and_shown(
    poison: Callable[[int], list[UUID]], monkeypatch: pytest.MonkeyPatch, message: str, kept: str
) -> None:
    monkeypatch.setattr(projections, "indigestion", lambda: ValueError(message))
    poison(1)
    assert Delivery.objects.get(state="dead").error == kept
    shown = StringIO()
    call_command("dead_letters", "list", stdout=shown)
    assert "ValueError" in shown.getvalue()


def test_an_error_that_fails_at_telling_what_it_is_is_parked_too(
    poison: Callable[[int], list[UUID]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("Words fail me.")

    monkeypatch.setattr(projections, "indigestion", Unspeakable)
    poison(1)
    letter = Delivery.objects.get(state="dead")
    assert letter.error == "Unspeakable: (it can't be told)"
    assert "Unspeakable" in letter.traceback
