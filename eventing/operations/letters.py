"""Dead letters: the groups first, then the letters of one, then a letter with all that is known of it."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import Http404, QueryDict
from django.shortcuts import get_object_or_404

from eventing import letter_jobs, letters, personal
from eventing.domain import Rejected
from eventing.letters import Filter
from eventing.models import Delivery, LetterGroup, LetterJob, SagaInstance, StoredEvent
from eventing.operations.page import Act, Page
from eventing.subscriptions import subscriptions

A_PAGE = 50
VIEW, RETRY, SKIP = "eventing.view_delivery", "eventing.retry_delivery", "eventing.skip_delivery"
PERSONAL = "eventing.view_personal_data"
NOT_TO_RETRY = "It is settled, or hasn't failed: it waits behind another."
NUMBER = re.compile(r"[0-9]{1,9}")
ASKED = ("subscription", "event_type", "signature", "sequence", "state")


class LetterGroups(Page):
    """What has failed, by where and why."""

    title = "Dead letters"
    permission_required = VIEW
    template_name, fragment, refresh_seconds = "operations/letters.html", "operations/_letter_groups.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            groups=letters.groups(settings.EVENTING["SUBJECT"]["field"]),
            subject=settings.EVENTING["SUBJECT"],
            jobs=[(job, letter_jobs.progress(job)) for job in LetterJob.objects.order_by("-pk")[:5]],
            **kwargs,
        )


class LetterList(Page):
    """The letters that fit a filter, such as those of one group; and what can be done to all of them."""

    title = "Letters"
    permission_required = VIEW
    template_name, fragment, refresh_seconds = "operations/letter_list.html", "operations/_letter_list.html", 3

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        asked = _asked(self.request.GET)
        group = LetterGroup.objects.filter(pk=asked.signature).first()
        found = asked.letters().select_related("event")
        job = letter_jobs.latest(asked.signature) if asked.signature else None
        page = Paginator(found, A_PAGE).get_page(self.request.GET.get("page"))
        return super().get_context_data(
            asked=asked,
            fields={**asked.described(), "at_most": page.paginator.count},
            group=group,
            letters=page,
            first=page.object_list[0] if page.object_list else None,
            job=job,
            progress=letter_jobs.progress(job) if job else None,
            known_subscriptions=[each.name for each in subscriptions()],
            states=[Delivery.State.DEAD, Delivery.State.WAITING],
            query=_without_page(self.request.GET),
            **{"title": str(group) if group else self.title, **kwargs},
        )


class Letter(Page):
    """One letter: what failed, each attempt, what waits behind it, and what can be done."""

    permission_required = VIEW
    template_name, fragment, refresh_seconds = "operations/letter.html", "operations/_letter.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        letter = get_object_or_404(Delivery.objects.select_related("event"), pk=self.kwargs["pk"])
        may_see = self.user.has_perm(PERSONAL)
        failures = letters.failures_of(letter, with_personal_data=may_see)
        behind = Delivery.objects.filter(
            subscription=letter.subscription,
            sequence=letter.sequence,
            position__gt=letter.position,
            state__in=Delivery.OPEN,
        )
        return super().get_context_data(
            title=f"Letter {letter.pk}: {letter.subscription}",
            letter=letter,
            is_open=letter.state in Delivery.OPEN,
            settled="" if letter.state in Delivery.OPEN else "It is settled.",
            not_retried="" if letters.to_retry(Filter(ids=(letter.pk,))).exists() else NOT_TO_RETRY,
            group=LetterGroup.objects.filter(pk=letter.signature).first(),
            failures=failures[::-1],
            attempts_allowed=max([letter.attempts, *(each.number for each in failures)]),
            payload=payload(letter.event, may_see=may_see),
            behind=behind.select_related("event").order_by("position")[:A_PAGE],
            behind_count=behind.count(),
            saga=_saga(letter),
            **kwargs,
        )


class RetryLetter(Act):
    """Try one letter again, at once."""

    permission_required = RETRY

    def act(self, user: User, pk: int) -> str:
        if not letters.retry(Filter(ids=(pk,)), who=user):
            raise Rejected(NOT_TO_RETRY)
        return f"Letter {pk} is tried again now."


class RetrySequence(Act):
    """Try all failed letters of a letter's sequence again."""

    permission_required = RETRY

    def act(self, user: User, pk: int) -> str:
        letter = get_object_or_404(Delivery, pk=pk)
        again = letters.retry(Filter(subscription=letter.subscription, sequence=letter.sequence), who=user)
        return f"{again} of {letter.sequence} tried again now; what waits behind follows in order."


class SkipLetter(Act):
    """Give one letter up."""

    permission_required = SKIP

    def act(self, user: User, pk: int) -> str:
        letter = get_object_or_404(Delivery, pk=pk)
        if not letters.skip(Filter(ids=(letter.pk,)), reason=self.request.POST.get("reason", ""), who=user):
            raise Rejected(f"Letter {letter.pk} is settled already.")
        return f"Letter {letter.pk} is skipped; the next of {letter.sequence} go on."


class RetryAll(Act):
    """Begin to try all again that fit, gradually."""

    permission_required = RETRY

    def act(self, user: User) -> str:
        job = letter_jobs.start(_asked(self.request.POST), who=user)
        return f"Job {job.pk} tries {letter_jobs.progress(job).total:,} letters again, gradually."


class SkipAll(Act):
    """Give up all that fit."""

    permission_required = SKIP

    def act(self, user: User) -> str:
        """No more than the button said, which may have been pressed on a page that was old."""
        asked, said = _asked(self.request.POST), self.request.POST.get("at_most", "")
        if not NUMBER.fullmatch(said):
            raise Rejected("The form doesn't say how many letters are to be skipped. Press the button of the page.")
        skipped = letters.skip(asked, reason=self.request.POST.get("reason", ""), who=user, at_most=int(said))
        return f"{skipped:,} skipped; the next of their sequences go on."


class CancelJob(Act):
    """Let no more letters of a job go."""

    permission_required = RETRY

    def act(self, user: User, pk: int) -> str:
        job = get_object_or_404(LetterJob, pk=pk)
        letter_jobs.cancel(job, who=user)
        return f"Job {job.pk} is cancelled; letters that were let go are still tried."


def payload(event: StoredEvent, *, may_see: bool) -> str:
    """An event's fields as JSON to read; what is personal only for those who may see it."""
    (document,) = personal.readable([event.data], with_personal_data=may_see)
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _asked(query: QueryDict) -> Filter:
    """The filter of a query or a form. Raises Http404 for what no letter can be."""
    asked = msgspec.convert({name: query.get(name, "").strip() for name in ASKED}, Filter)
    if any("\0" in getattr(asked, name) for name in ASKED):
        raise Http404
    return asked


def _without_page(query: QueryDict) -> str:
    """The query as it is, for links to other pages of the list."""
    kept = query.copy()
    kept.pop("page", None)
    return kept.urlencode()


def _saga(letter: Delivery) -> SagaInstance | None:
    """The saga that the letter keeps waiting, if its subscription is one."""
    if letter.subscription not in {each.name for each in subscriptions() if each.kind == "saga"}:
        return None
    return SagaInstance.objects.filter(saga=letter.subscription, key=letter.sequence).first()
