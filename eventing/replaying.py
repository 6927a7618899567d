"""Replays as operators have them: left to the workers, unless a command runs one itself, and written down.

Each act is refused with a reason when it can't be done: Rejected, in its kinds NoReplay, Busy and NotShadowable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from eventing import audit, replay
from eventing.models import Replay
from eventing.projections import ProjectionSubscription

PATIENCE = 10.0  # seconds that a person waits for readers who are in the way


def start(
    projection: ProjectionSubscription,
    *,
    who: User,
    by_workers: bool = True,
    noted: Mapping[str, str] = {},
    **options: Any,
) -> Replay:
    """Begin a replay, or take up the one that is open. The workers' waits, once compared, for somebody to say
    `exchange`, unless it only verifies. ``options`` are those of `replay.start`; ``noted`` is written down as well."""
    with transaction.atomic():
        asks_first = by_workers and not options.get("verify_only", False)
        begun = replay.start(
            projection, by_workers=by_workers, asks_first=asks_first, by=noted.get("os_user", str(who)), **options
        )
        chosen = {name: value for name, value in options.items() if value}
        audit.note(who, "started a replay", begun, projection=projection.name, **chosen, **noted)
    return begun


def pause(projection: ProjectionSubscription, *, who: User, **noted: Any) -> Replay:
    """Let it wait, after the batch that is under way."""
    with transaction.atomic():
        return _noted(who, "paused a replay", replay.pause(projection), noted)


def resume(projection: ProjectionSubscription, *, who: User, **noted: Any) -> Replay:
    """Let it go on."""
    with transaction.atomic():
        return _noted(who, "resumed a replay", replay.resume(projection), noted)


def cancel(projection: ProjectionSubscription, *, who: User, **noted: Any) -> Replay:
    """Give it up. The live read model is as it was."""
    with transaction.atomic():
        return _noted(who, "cancelled a replay", replay.cancel(projection), noted)


def exchange(projection: ProjectionSubscription, *, who: User, **noted: Any) -> Replay:
    """Let what was built take the live one's place: whoever says so has seen the comparison, which is written down."""
    replay.give_up_outdated(projection)
    with transaction.atomic():
        agreed = replay.exchange(projection)
        found = replay.comparison_of(agreed)
        return _noted(who, "exchanged", agreed, {"different": found.different if found else None, **noted})


def roll_back(projection: ProjectionSubscription, *, who: User, **noted: Any) -> Replay:
    """Put back what the last replay replaced."""
    with transaction.atomic():
        return _noted(who, "rolled back a replay", replay.roll_back(projection, patience=PATIENCE), noted)


def _noted(who: User, act: str, done: Replay, noted: dict[str, Any]) -> Replay:
    audit.note(who, act, done, projection=done.projection, **noted)
    return done
