"""Jobs: many letters tried again, gradually. One goes first; if it succeeds two more, then five, twenty, a hundred.

A job knows its letters from the beginning, so one that arrives meanwhile isn't swept in. The next wave is let go when
each letter of the last has had its outcome; a wave of which too many fail again stops the job. All of it stands in
rows, and whoever sweeps takes the next step, so a job goes on whatever dies in between.
"""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Max
from django.db.models.functions import Now

from eventing import audit, letters
from eventing.domain import Rejected
from eventing.letters import Filter
from eventing.models import Delivery, JobLetter, LetterJob
from eventing.statements import run

WAVES = (1, 2, 5, 20, 100)
TOLERANCE = 0.2
MOST_LETTERS = 100_000

# What has become of the letters that were let go: one that failed since has failed again, however often it's still
# tried; one that is done has succeeded; one that somebody skipped is settled.
OUTCOMES = """
UPDATE eventing_job_letter member SET state = outcome.state
FROM (
    SELECT released.id, CASE
        WHEN letter.state = 'done' THEN 'succeeded'
        WHEN letter.state = 'skipped' THEN 'settled'
        WHEN letter.state = 'dead' OR EXISTS (
            SELECT FROM eventing_attempt attempt
            WHERE attempt.delivery_id = letter.id AND attempt.began_at >= released.released_at
        ) THEN 'failed'
    END AS state
    FROM eventing_job_letter released JOIN eventing_delivery letter ON letter.id = released.delivery_id
    WHERE released.job_id = %(job)s AND released.state = 'released'
) outcome
WHERE outcome.id = member.id AND outcome.state IS NOT NULL
"""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come, in letters."""

    total: int
    waiting: int
    released: int
    succeeded: int
    failed: int
    settled: int

    @property
    def over(self) -> int:
        """Letters that have had their outcome."""
        return self.succeeded + self.failed + self.settled


def start(asked: Filter, *, who: User, tolerance: float = TOLERANCE, **noted: Any) -> LetterJob:
    """Begin to try the letters again that fit now. Raises Rejected when there are none, or too many, or when another
    job is at one of them."""
    if not 0 <= tolerance <= 1:
        raise Rejected(f"The share that may fail again is from 0 to 1, not {tolerance}.")
    with transaction.atomic():
        chosen = list(asked.letters().select_for_update(of=("self",))[: MOST_LETTERS + 1])
        if not chosen:
            raise Rejected("No open letters fit.")
        if len(chosen) > MOST_LETTERS:
            raise Rejected(f"More than {MOST_LETTERS:,} letters fit: choose fewer.")
        busy = JobLetter.objects.filter(
            delivery__in=chosen, job__state=LetterJob.State.RUNNING, state__in=(WAITING, RELEASED)
        ).first()
        if busy is not None:
            raise Rejected(f"Job {busy.job_id} is at some of these letters. Wait for it, or cancel it.")
        job = LetterJob.objects.create(filter=asked.described(), tolerance=tolerance, started_by=who.get_username())
        JobLetter.objects.bulk_create([JobLetter(job=job, delivery=letter) for letter in chosen], batch_size=5_000)
        audit.note(
            who, "began to retry", job, filter=asked.described(), letters=len(chosen), tolerance=tolerance, **noted
        )
        _let_go(job)
    return job


def cancel(job: LetterJob, *, who: User, **noted: Any) -> None:
    """Let no more go; what was let go already is tried again. Raises Rejected when the job has ended."""
    with transaction.atomic():
        held = LetterJob.objects.select_for_update().get(pk=job.pk)
        if held.state != LetterJob.State.RUNNING:
            raise Rejected(f"Job {job.pk} has ended: it's {held.state}.")
        _end(held, LetterJob.State.CANCELLED, f"Cancelled by {who.get_username()}.")
        audit.note(who, "cancelled", held, **msgspec.to_builtins(progress(held)), **noted)


def tend() -> int:
    """Take the next step of every job that is running. Returns how many there are. For the sweep."""
    running = list(LetterJob.objects.filter(state=LetterJob.State.RUNNING).order_by("pk"))
    for job in running:
        with transaction.atomic():
            held = (
                LetterJob.objects.select_for_update(skip_locked=True)
                .filter(pk=job.pk, state=LetterJob.State.RUNNING)
                .first()
            )
            if held is not None:
                _step(held)
    return len(running)


def progress(job: LetterJob) -> Progress:
    """How far a job has come."""
    counted = dict(job.letters.order_by().values_list("state").annotate(letters=Count("pk")))
    return Progress(total=sum(counted.values()), **{state: counted.get(state, 0) for state in JobLetter.State.values})


WAITING, RELEASED = JobLetter.State.WAITING, JobLetter.State.RELEASED


def _step(job: LetterJob) -> None:
    run(OUTCOMES, {"job": job.pk})
    if job.letters.filter(state=RELEASED).exists():
        return  # some of this wave are still being tried
    failed, size = (job.letters.filter(wave=job.wave, **of).count() for of in ({"state": JobLetter.State.FAILED}, {}))
    if size and failed / size > job.tolerance:
        _end(
            job,
            LetterJob.State.STOPPED,
            f"{failed} of the {size} in wave {job.wave} failed again, which is more than {job.tolerance:.0%}. "
            "The others were left as they are.",
        )
    else:
        _let_go(job)


def _let_go(job: LetterJob) -> None:
    """The next wave, of those that are still open; or the end, when there are none left."""
    size = WAVES[min(job.wave, len(WAVES) - 1)]
    members = list(job.letters.filter(state=WAITING).select_related("delivery").order_by("delivery__position")[:size])
    if not members:
        _end(job, LetterJob.State.DONE, "")
        return
    held = Delivery.objects.select_for_update().filter(pk__in=[each.delivery_id for each in members])
    still = {each.pk: each for each in held if each.state in Delivery.OPEN}
    job.wave += 1
    job.save(update_fields=["wave"])
    ours = job.letters.filter(pk__in=[each.pk for each in members])
    ours.filter(delivery__in=still).update(state=RELEASED, wave=job.wave, released_at=Now())
    ours.exclude(delivery__in=still).update(state=JobLetter.State.SETTLED, wave=job.wave)
    letters.release(list(still.values()))


def _end(job: LetterJob, state: LetterJob.State, said: str) -> None:
    LetterJob.objects.filter(pk=job.pk).update(state=state, said=said, finished_at=Now())


def latest(signature: str) -> LetterJob | None:
    """The newest job about a group, running or ended."""
    newest = LetterJob.objects.filter(filter__signature=signature).aggregate(newest=Max("pk"))["newest"]
    return LetterJob.objects.filter(pk=newest).first()
