"""Sagas: which need somebody, why, and all that one did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404

from eventing import resuming, stuck
from eventing.models import SagaInstance
from eventing.operations.page import Act, Page
from eventing.resuming import NotResumable, UnknownSaga
from eventing.saga_history import history_of, memory_of, reminders_of
from eventing.stuck import Act as Help
from eventing.stuck import Why, why_unfinished
from eventing.subscriptions import UnknownSubscription

A_PAGE = 50
LONGEST_NUMBER = 19  # digits of PostgreSQL's largest
PERSONAL = "eventing.view_personal_data"


class Sagas(Page):
    """All sagas, newest first; or the stuck ones, with what keeps each."""

    title = "Sagas"
    permission_required = "eventing.view_sagainstance"
    template_name, fragment, refresh_seconds = "operations/sagas.html", "operations/_sagas.html", 10

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        asked = {name: self.request.GET.get(name, "").strip() for name in ("saga", "state", "key", "stuck", "before")}
        found = list(_matching(asked)[: A_PAGE + 1])
        shown = [(saga, why_unfinished(saga) if asked["stuck"] else None) for saga in found[:A_PAGE]]
        older = self.request.GET.copy()
        older["before"] = str(found[A_PAGE - 1].pk) if len(found) > A_PAGE else ""
        return super().get_context_data(
            asked=asked,
            names=[each.name for each in resuming.sagas()],
            sagas=shown,
            stuck=stuck.stuck().count(),
            older=older.urlencode() if older["before"] else "",
            **kwargs,
        )


class Saga(Page):
    """One saga: step by step what came in, what it became, what it asked for; and why it isn't finished."""

    permission_required = "eventing.view_sagainstance"
    template_name, fragment, refresh_seconds = "operations/saga.html", "operations/_saga.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        saga = _find(kwargs["name"], kwargs["key"])
        personal = self.user.has_perm(PERSONAL)
        why = why_unfinished(saga)
        return super().get_context_data(
            saga=saga,
            why=why,
            notice=_notice(why),
            why_not=_why_not_resume(saga),
            steps=[
                {"shown": step, "changes": {name: _text(step.memory.get(name)) for name in step.changed}}
                for step in reversed(history_of(saga, with_personal_data=personal))
            ],
            memory=_texts(memory_of(saga, with_personal_data=personal)),
            reminders=reminders_of(saga),
            hides=not personal,
            **{**kwargs, "title": saga.saga},
        )


class ResumeSaga(Act):
    """Let a saga go on."""

    permission_required = "eventing.resume_sagainstance"

    def act(self, user: User, *, name: str, key: UUID) -> str:
        done = resuming.resume(_find(name, key), who=user)
        again = f"{done.letters} of its letters will be tried again" if done.letters else ""
        heard = "it hears of it as soon as it has seen everything else" if done.hears else ""
        return f"{name} is resumed: {' and '.join(filter(None, (again, heard)))}."


def _matching(asked: Mapping[str, str]) -> QuerySet[SagaInstance]:
    sagas = stuck.stuck() if asked["stuck"] else SagaInstance.objects.all()
    wanted: dict[str, Any] = {name: asked[name] for name in ("saga", "state") if asked[name]}
    if asked["before"].isdecimal() and len(asked["before"]) <= LONGEST_NUMBER:
        wanted["pk__lt"] = int(asked["before"])
    if asked["key"]:
        try:
            wanted["key"] = UUID(asked["key"])
        except ValueError:
            return SagaInstance.objects.none()
        if not asked["saga"]:  # both columns make the index
            wanted["saga__in"] = [each.name for each in resuming.sagas()]
    return sagas.filter(**wanted).order_by("-pk")


def _find(name: str, key: UUID) -> SagaInstance:
    try:
        return resuming.find(key, name)
    except UnknownSaga as error:
        raise Http404(str(error)) from error


def _why_not_resume(saga: SagaInstance) -> str:
    if saga.ended_at and not saga.failed:
        return f"It has ended: {saga.state}."
    try:
        resuming.plan(saga)
    except (NotResumable, UnknownSubscription) as error:
        return str(error)
    return ""


def _notice(why: Why) -> str:
    """How urgent it looks, beside what it says."""
    return {Help.NOTHING: "good", Help.WAIT: ""}.get(why.act, "bad")


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in fields.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
