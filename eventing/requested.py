"""Requests that are carried out later: accepted, kept, and made by a worker on behalf of who asked.

A worker makes the same request of the same view, so that later and at once mean the same. It may be killed at any
moment: each part has an idempotency key of its own, so that made again it's answered as it was, and done once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpResponse
from django.urls import resolve, reverse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from uuid_utils.compat import uuid7

from eventing import answers, deliveries, nudges, person_keys
from eventing.headers import preferences
from eventing.models import RequestedCommand, RequestedPart, SavedAnswer
from eventing.nudges import Nudge
from eventing.statements import run

State = RequestedCommand.State

ON_BEHALF_OF = "waybill.on_behalf_of"
"""Where a request that a worker makes says whose it is. No header of a request from outside can be called that."""

CARRIED_OVER = ("If-Match", "traceparent")
AGAIN = (409, 429, 500, 503)  # answers that may be others the next time, unless they were kept

# Takes the command that has waited longest. Nobody else does, until the lease ends.
CLAIM = """
UPDATE eventing_requested_command SET state = 'running', due_at = statement_timestamp() + %(lease)s
WHERE id = (
    SELECT id FROM eventing_requested_command
    WHERE state IN ('pending', 'running') AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""

UNTOLD = {
    "status": 500,
    "code": "error",
    "detail": "It was begun several times and never ended, or its answer is gone.",
}

logger = logging.getLogger(__name__)


def is_to_be_later(request: Request) -> bool:
    """Whether who asks would rather not wait for it."""
    preferred = preferences(request)
    return preferred.respond_async and preferred.wait is None and not is_on_behalf(request)


def is_on_behalf(request: Request) -> bool:
    """Whether a worker asks, and this is the later."""
    return request.META.get(ON_BEHALF_OF) is not None


@transaction.atomic
def accept(request: Request, parts: Sequence[bytes] = ()) -> Response:
    """Keep a request, whole or in parts, for a worker, and answer where its client can see what becomes of it."""
    command = RequestedCommand.objects.create(
        id=uuid7(),
        account=cast(User, request.user),
        path=request.get_full_path(),
        headers={name: request.headers[name] for name in CARRIED_OVER if name in request.headers},
    )
    RequestedPart.objects.bulk_create(
        RequestedPart(command=command, number=number, body=person_keys.sealed(body, about=_about(command.id, number)))
        for number, body in enumerate(parts or [request.body])
    )
    transaction.on_commit(partial(nudges.send, [Nudge(nudges.REQUESTED)]))
    headers = {"Location": reverse("api-command", args=[command.id]), "Retry-After": "1"}
    if preferences(request).respond_async:
        headers["Preference-Applied"] = "respond-async"
    return Response(described(RequestedCommand.objects.get(pk=command.pk)), status=202, headers=headers)


def described(command: RequestedCommand, *, with_answer: bool = True) -> dict[str, Any]:
    """What a client sees of a command; ``with_answer`` also what it was answered, which may tell of a person."""
    parts = list(command.parts.select_related("answer").order_by("number"))
    done = [part for part in parts if part.status is not None]
    told = [_body(part.answer) if with_answer else None for part in done]
    ended = command.state not in RequestedCommand.OPEN
    good = command.state != State.FAILED
    return {
        "id": command.id,
        "path": command.path,
        "state": command.state,
        "created_at": command.created_at,
        "ended_at": command.ended_at,
        "progress": {"done": len(done), "total": len(parts)},
        "result": _merged(told) if ended and (good or len(parts) > 1) else None,
        "problem": (told[0] or UNTOLD) if with_answer and ended and not good and len(parts) == 1 else None,
    }


def is_waiting() -> bool:
    """Whether there is a command that a worker should take."""
    return RequestedCommand.objects.filter(state__in=RequestedCommand.OPEN, due_at__lte=Now()).exists()


def purge() -> None:
    """Delete commands that ended long enough ago, some at a time; their answers go when they expire."""
    ended = RequestedCommand.objects.filter(
        ended_at__lt=timezone.now() - timedelta(hours=settings.EVENTING["KEEP_ANSWERS_HOURS"])
    )
    RequestedCommand.objects.filter(pk__in=list(ended.values_list("pk", flat=True)[: answers.PURGED_AT_ONCE])).delete()


def work() -> bool:
    """Carry out one command as far as it can be now. Returns whether there was one."""
    for (id,) in run(CLAIM, {"lease": deliveries.lease()}):
        command = RequestedCommand.objects.select_related("account").get(pk=id)
        while part := command.parts.filter(status=None).order_by("number").first():
            if not _make(command, part):
                return True
        _end(command)
        return True
    return False


def _make(command: RequestedCommand, part: RequestedPart) -> bool:
    """Make one attempt at a part, counted before it's made. Returns whether it's done, or will be tried again."""
    if part.attempts >= settings.EVENTING["ATTEMPTS"]:
        command.parts.filter(pk=part.pk).update(status=500, body=None)
        return True
    command.parts.filter(pk=part.pk).update(attempts=F("attempts") + 1)
    RequestedCommand.objects.filter(pk=command.pk).update(due_at=timezone.now() + deliveries.lease())
    key = _about(command.id, part.number)
    response, request = _made(command, person_keys.opened(bytes(part.body or b""), about=key), key)
    answer = SavedAnswer.objects.filter(account=command.account, key=key).first()
    if answer is None and response.status_code in AGAIN and part.attempts + 1 < settings.EVENTING["ATTEMPTS"]:
        logger.warning("Command %s, attempt %s: answered %s.", command.id, part.attempts + 1, response.status_code)
        RequestedCommand.objects.filter(pk=command.pk).update(
            due_at=timezone.now() + deliveries.back_off(part.attempts + 1)
        )
        return False
    answer = answer or answers.keep(request, key, b"", response)
    command.parts.filter(pk=part.pk).update(status=answer.status, answer=answer, body=None)
    return True


def _made(command: RequestedCommand, body: bytes, key: str) -> tuple[HttpResponse, Request]:
    """The request as it would have been made at once, and the view's answer."""
    address = urlsplit(command.path)
    headers = {**command.headers, "Idempotency-Key": key}
    made = WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": address.path,
            "QUERY_STRING": address.query,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": BytesIO(body),
            ON_BEHALF_OF: command.account,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
        }
    )
    view = resolve(address.path)
    response = view.func(made, *view.args, **view.kwargs)
    if isinstance(response, Response):
        response.render()
    request = Request(made)
    request.user = command.account
    return cast(HttpResponse, response), request


def _end(command: RequestedCommand) -> None:
    outcomes = [outcome for part in command.parts.select_related("answer") for outcome in _outcomes(part)]
    good = sum(status < 400 for status in outcomes)
    state = State.SUCCEEDED if good == len(outcomes) else State.PARTIALLY_SUCCEEDED if good else State.FAILED
    RequestedCommand.objects.filter(pk=command.pk).update(state=state, ended_at=Now())


def _outcomes(part: RequestedPart) -> list[int]:
    """The status of each item that a part has, or its own."""
    body = _body(part.answer)
    if part.status == 207 and isinstance(body, dict):
        return [item["status"] for item in body["results"]]
    return [part.status or 500]


def _merged(told: Sequence[Any]) -> Any:
    """What the parts were answered, as if they were one."""
    if len(told) <= 1:
        return told[0] if told else None
    results: list[dict[str, Any]] = []
    for each in told:
        items = each["results"] if isinstance(each, dict) and "results" in each else []
        results += [{**item, "index": len(results) + offset} for offset, item in enumerate(items)]
    return {"results": results}


def _body(answer: SavedAnswer | None) -> Any:
    """What was answered; None once that was forgotten."""
    body = answers.body_of(answer) if answer is not None else None
    return msgspec.json.decode(body) if body else None


def _about(command: UUID, number: int) -> str:
    """The key of a part. It has spaces, so that no client's can be the same."""
    return f"command {command} {number}"
