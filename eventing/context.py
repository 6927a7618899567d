"""Why something happens: carried beside the domain, so that no domain code needs to mention it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from eventing.records import Record


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside each event: the conversation it belongs to, what led to it, who acted.

    ``causation_id`` is the id of the event that led here, or None where a person or another system began it.
    ``occurred_at`` is given when the fact is older than its recording; None means now.
    """

    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str = ""
    traceparent: str = ""
    occurred_at: datetime | None = None


_cause: ContextVar[Cause | None] = ContextVar("cause", default=None)


def current() -> Cause:
    """The cause in force, or the beginning of a new conversation."""
    return _cause.get() or Cause(correlation_id=uuid7())


def in_force() -> Cause | None:
    """The cause in force, if any."""
    return _cause.get()


def take_up(cause: Cause | None) -> Token[Cause | None]:
    """Put a cause in force until it's put down: for those who can't use `because_of`."""
    return _cause.set(cause)


def put_down(token: Token[Cause | None]) -> None:
    """Put the cause before that one in force again."""
    _cause.reset(token)


@contextmanager
def because_of(cause: Cause) -> Iterator[Cause]:
    """Everything recorded inside has this cause."""
    token = _cause.set(cause)
    try:
        yield cause
    finally:
        _cause.reset(token)


@contextmanager
def acting(
    *,
    actor: str = "",
    occurred_at: datetime | None = None,
    traceparent: str = "",
    correlation_id: UUID | None = None,
) -> Iterator[Cause]:
    """Begin a conversation on behalf of ``actor``: a user's name, or the name of a program."""
    with because_of(
        Cause(
            correlation_id=correlation_id or uuid7(),
            actor=actor,
            traceparent=traceparent,
            occurred_at=occurred_at,
        )
    ) as cause:
        yield cause


def following(record: Record, *, actor: str) -> Cause:
    """The cause of what ``actor`` does about an event: the same conversation, one step on."""
    return Cause(
        correlation_id=record.correlation_id,
        causation_id=record.id,
        actor=actor,
        traceparent=record.traceparent,
    )


class NotAllowed(RuntimeError):
    """Somebody who may only look tried to act."""


_only_looking: ContextVar[str] = ContextVar("only_looking", default="")


@contextmanager
def only_looking(who: str) -> Iterator[None]:
    """Inside, nothing can be recorded, sent or performed."""
    token = _only_looking.set(who)
    try:
        yield
    finally:
        _only_looking.reset(token)


def about_to(act: str) -> None:
    """Say what is about to be done. Raises NotAllowed where one may only look."""
    if who := _only_looking.get():
        raise NotAllowed(
            f"{who} may only write its read model, and tried to {act}. Do that in a saga, a policy or an effect."
        )
