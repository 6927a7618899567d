"""Carries the cause along with Celery messages, so that what a task records tells who and what led to it."""

from __future__ import annotations

from typing import Any

import msgspec
from celery.signals import before_task_publish, task_postrun, task_prerun

from eventing import context

HEADER = "waybill_cause"


def connect() -> None:
    """Begin to carry causes with the messages of every task."""
    before_task_publish.connect(_send, weak=False)
    task_prerun.connect(_receive, weak=False)
    task_postrun.connect(_done, weak=False)


def _send(headers: dict[str, Any] | None = None, **_: Any) -> None:
    cause = context.in_force()
    if cause is not None and headers is not None:
        headers[HEADER] = msgspec.json.encode(cause).decode()


def _receive(task: Any = None, **_: Any) -> None:
    carried = getattr(task.request, HEADER, None)
    task.request.waybill_token = context.take_up(msgspec.json.decode(carried, type=context.Cause) if carried else None)


def _done(task: Any = None, **_: Any) -> None:
    token = getattr(task.request, "waybill_token", None)
    if token is not None:
        context.put_down(token)
