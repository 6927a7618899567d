"""Subscriptions: how far each has come, and pausing it; for read models, building them anew beside the live one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.http import Http404
from django.urls import reverse

from eventing import checkpoints, pausing, replay, replaying, shadows
from eventing.models import Checkpoint, Replay
from eventing.operations.page import Act, Page
from eventing.operations.sagas import PERSONAL
from eventing.projections import ProjectionSubscription
from eventing.status import status
from eventing.subscriptions import Subscription, UnknownSubscription, subscription_named

PAUSE, REPLAY = "eventing.pause_checkpoint", "eventing.run_replay"


class Button(NamedTuple):
    """An act that a page offers, or says why not."""

    label: str
    url: str
    permission: str
    why_not: str = ""
    style: str = ""


class Subscriptions(Page):
    """All of them."""

    title = "Subscriptions"
    permission_required = "eventing.view_checkpoint"
    template_name, fragment, refresh_seconds = "operations/subscriptions.html", "operations/_subscriptions.html", 5

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(status=status(), outdated=replay.needing_replay(), **kwargs)


class SubscriptionPage(Page):
    """One of them: its partitions, what waits apart, and its replay if it's a read model."""

    permission_required = "eventing.view_checkpoint"
    template_name, fragment, refresh_seconds = "operations/subscription.html", "operations/_subscription.html", 2

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        subscription = _named(kwargs["name"])
        (found,) = (each for each in status().subscriptions if each.name == subscription.name)
        replays = {}
        if isinstance(subscription, ProjectionSubscription):
            hides = subscription.tells_of_persons and not self.user.has_perm(PERSONAL)
            replays = _replay_of(subscription, hides=hides)
        return super().get_context_data(
            subscription=found,
            partitions=Checkpoint.objects.filter(subscription=subscription.name).order_by("partition"),
            head=checkpoints.head(),
            acts=_acts_on(subscription, found.state),
            **replays,
            **{**kwargs, "title": subscription.name},
        )


class Pause(Act):
    """Stop a subscription."""

    permission_required = PAUSE

    def act(self, user: User, *, name: str) -> str:
        paused = pausing.pause(_named(name), who=user)
        return f"{name} is paused: {paused} partitions stop after the batch that is under way."


class Resume(Act):
    """Let a subscription go on."""

    permission_required = PAUSE

    def act(self, user: User, *, name: str) -> str:
        return f"{name} goes on, in {pausing.resume(_named(name), who=user)} partitions."


class ActOnReplay(Act):
    """Something to do with the replay of a read model."""

    permission_required = REPLAY

    def act(self, user: User, *, name: str, what: str) -> str:
        if what not in REPLAY_ACTS:
            raise Http404(f"{what} is nothing that can be done to a replay.")
        do, done = REPLAY_ACTS[what]
        do(_projection(name), who=user)
        return f"{name}: {done}"


REPLAY_ACTS: dict[str, tuple[Callable[..., Replay], str]] = {
    "start": (
        replaying.start,
        "the workers rebuild it beside the live one, and compare the two. Nothing is exchanged before you say so.",
    ),
    "verify": (
        partial(replaying.start, verify_only=True),
        "the workers rebuild it, compare the two, and change nothing.",
    ),
    "pause": (replaying.pause, "its replay waits."),
    "resume": (replaying.resume, "its replay goes on."),
    "exchange": (replaying.exchange, "what was built takes its place as soon as it has caught up."),
    "cancel": (replaying.cancel, "its replay is given up. The live one is as it was."),
    "rollback": (replaying.roll_back, "it is again what it was before the replay, brought up to date."),
}


def _named(name: str) -> Subscription:
    try:
        return subscription_named(name)
    except UnknownSubscription as error:
        raise Http404(str(error)) from error


def _projection(name: str) -> ProjectionSubscription:
    subscription = _named(name)
    if not isinstance(subscription, ProjectionSubscription):
        raise Http404(f"{name} is no read model, and can't be replayed.")
    return subscription


def _acts_on(subscription: Subscription, state: str) -> list[Button]:
    paused = Checkpoint.State.PAUSED.value in state
    return [
        Button(
            "Pause",
            reverse("operations:subscription-pause", args=[subscription.name]),
            PAUSE,
            "" if Checkpoint.State.RUNNING.value in state else f"It is {state}.",
        ),
        Button(
            "Resume",
            reverse("operations:subscription-resume", args=[subscription.name]),
            PAUSE,
            "" if paused else "It isn't paused.",
        ),
    ]


def _replay_of(projection: ProjectionSubscription, *, hides: bool) -> dict[str, Any]:
    last = Replay.objects.filter(projection=projection.name).order_by("-pk").first()
    left = (last.target - last.position) / last.rate if last and last.rate and last.state == "building" else None
    return {
        "is_projection": True,
        "hides": hides,
        "replay": last,
        "tended": last is not None and replay.is_tended(last),
        "left": timedelta(seconds=round(left)) if left is not None else None,
        "comparison": replay.comparison_of(last) if last else None,
        "error": _error(last, hides=hides) if last else "",
        "size": shadows.size(projection),
        "replay_acts": _acts_on_replay(projection, last),
    }


def _error(last: Replay, *, hides: bool) -> str:
    """What went wrong; where it failed at an event, what it says may tell of a person."""
    if hides and last.state == Replay.State.FAILED:
        return f"{last.error.partition(':')[0]}: [hidden], because it may tell of a person."
    return last.error


def _acts_on_replay(projection: ProjectionSubscription, last: Replay | None) -> list[Button]:
    """What can be done by now; what can't says why. An act that makes no sense at all isn't offered."""
    state = last.state if last else ""

    def button(label: str, what: str, why_not: str = "", style: str = "quiet") -> Button:
        return Button(label, reverse("operations:replay", args=[projection.name, what]), REPLAY, why_not, style)

    if last is None or state not in Replay.OPEN:
        kept = shadows.exists(shadows.previous_of(projection)) and state == Replay.State.DONE
        nothing = "" if kept else "Nothing is kept from before a replay."
        return [
            button("Replay", "start", style=""),
            button("Only compare", "verify"),
            button("Roll back", "rollback", nothing, "danger"),
        ]
    cancel = button("Cancel", "cancel", "It is in place: its old rows are gone." if last.in_place else "", "danger")
    if state == Replay.State.COMPARED:
        return [button("Exchange", "exchange", style=""), cancel]
    if state == Replay.State.PAUSED:
        return [button("Go on", "resume", style=""), cancel]
    return [button("Exchange", "exchange", "It isn't compared yet.", ""), button("Pause", "pause"), cancel]
