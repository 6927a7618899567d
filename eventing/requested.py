"""Requests that are carried out later: accepted, kept, and made by a worker on behalf of who asked.

A worker makes the same request of the same view, so that later and at once mean the same. It may be killed at any
moment: each part has an idempotency key of its own, so that made again it's answered as it was, and done once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import resolve, reverse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from uuid_utils.compat import uuid7

from eventing import answers, deliveries, nudges, person_keys
from eventing.headers import CONSISTENCY_TOKEN, preferences
from eventing.models import RequestedCommand, RequestedPart, SavedAnswer
from eventing.nudges import Nudge
from eventing.statements import run

State = RequestedCommand.State

ON_BEHALF_OF = "waybill.on_behalf_of"
"""Where a request that a worker makes says whose it is. No header of a request from outside can be called that."""

FIRST_ITEM = "waybill.first_item"
"""Where the request for a part of a long list says which item of the whole its first one is."""

CARRIED_OVER = ("If-Match", "traceparent")
MULTI_STATUS, BAD = 207, 400
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

GIVEN_UP: dict[str, Any] = {"status": 500, "code": "error", "detail": "It was begun several times and never ended."}
FORGOTTEN: dict[str, Any] = {"status": 410, "code": "answer-forgotten", "detail": "What it was answered is forgotten."}

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """A part of a long list: a body of its own, which item of the whole its first one is, and how many it has."""

    body: bytes
    first_item: int = 0
    items: int | None = None


def is_to_be_later(request: Request) -> bool:
    """Whether who asks would rather not wait for it."""
    preferred = preferences(request)
    return preferred.respond_async and preferred.wait is None and not is_on_behalf(request)


def is_on_behalf(request: Request) -> bool:
    """Whether a worker asks, and this is the later."""
    return request.META.get(ON_BEHALF_OF) is not None


def first_item(request: Request) -> int:
    """Which item of the whole list the first one of this request is; 0 where it's no part of another."""
    first: int = request.META.get(FIRST_ITEM, 0)
    return first


@transaction.atomic
def accept(request: Request, parts: Sequence[Part] = ()) -> Response:
    """Keep a request, whole or in parts, for a worker, and answer where its client can see what becomes of it. Raises
    what reading it raises when it can't be read."""
    whole = Part(request.body)
    _ = request.data  # what can't be read is refused now
    command = RequestedCommand.objects.create(
        id=uuid7(),
        account=cast(User, request.user),
        path=cast(HttpRequest, request).get_full_path_info(),
        headers={name: request.headers[name] for name in CARRIED_OVER if name in request.headers},
    )
    RequestedPart.objects.bulk_create(
        RequestedPart(
            command=command,
            number=number,
            first_item=part.first_item,
            items=part.items,
            body=person_keys.sealed(part.body, about=_about(command.id, number)),
        )
        for number, part in enumerate(parts or [whole])
    )
    transaction.on_commit(partial(nudges.send, [Nudge(nudges.REQUESTED)]))
    headers = {"Location": reverse("api-command", args=[command.id]), "Retry-After": "1"}
    if preferences(request).respond_async:
        headers["Preference-Applied"] = "respond-async"
    return Response(described(RequestedCommand.objects.get(pk=command.pk)), status=202, headers=headers)


def described(command: RequestedCommand, *, with_answer: bool = True) -> dict[str, Any]:
    """What a client sees of a command; ``with_answer`` also what it was answered, which may tell of a person."""
    told = _told(command) if with_answer and command.state not in RequestedCommand.OPEN else _Told()
    return {
        "id": command.id,
        "path": command.path,
        "state": command.state,
        "created_at": command.created_at,
        "ended_at": command.ended_at,
        "progress": command.progress,
        "result": told.result,
        "problem": told.problem,
    }


def token(command: RequestedCommand) -> str:
    """The token of the last of its parts that wrote something, which is behind all others in the log; empty while none
    has."""
    for part in command.parts.select_related("answer").order_by("-number"):
        if part.answer is not None and CONSISTENCY_TOKEN in part.answer.headers:
            return str(part.answer.headers[CONSISTENCY_TOKEN])
    return ""


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
    """Carry out one part of one command; then it's the turn of the one that has waited longest. Returns whether there
    was one."""
    for (id,) in run(CLAIM, {"lease": deliveries.lease()}):
        command = RequestedCommand.objects.select_related("account").get(pk=id)
        part = command.parts.filter(status=None).order_by("number").first()
        if part is not None and not _make(command, part):
            return True
        if command.parts.filter(status=None).exists():
            RequestedCommand.objects.filter(pk=command.pk).update(due_at=Now())
        else:
            _end(command)
        return True
    return False


def _make(command: RequestedCommand, part: RequestedPart) -> bool:
    """Make one attempt at a part, counted before it's made; unless an earlier one was answered, by a worker that died
    before it noted that. Returns whether it's done, or will be tried again."""
    key = _about(command.id, part.number)
    if (answer := _kept(command, key)) is not None:
        _note(part, answer)
        return True
    if part.attempts >= settings.EVENTING["ATTEMPTS"]:
        command.parts.filter(pk=part.pk).update(status=GIVEN_UP["status"], body=None)
        return True
    command.parts.filter(pk=part.pk).update(attempts=F("attempts") + 1)
    RequestedCommand.objects.filter(pk=command.pk).update(due_at=timezone.now() + deliveries.lease())
    response, request = _made(command, part, key)
    answer = _kept(command, key)
    if answer is None and response.status_code in AGAIN and part.attempts + 1 < settings.EVENTING["ATTEMPTS"]:
        logger.warning("Command %s, attempt %s: answered %s.", command.id, part.attempts + 1, response.status_code)
        RequestedCommand.objects.filter(pk=command.pk).update(
            due_at=timezone.now() + deliveries.back_off(part.attempts + 1)
        )
        return False
    _note(part, answer or answers.keep(request, key, b"", response))
    return True


def _kept(command: RequestedCommand, key: str) -> SavedAnswer | None:
    return SavedAnswer.objects.filter(account=command.account, key=key).first()


def _note(part: RequestedPart, answer: SavedAnswer) -> None:
    RequestedPart.objects.filter(pk=part.pk).update(status=answer.status, answer=answer, body=None)


def _made(command: RequestedCommand, part: RequestedPart, key: str) -> tuple[HttpResponse, Request]:
    """The request as it would have been made at once, and the view's answer."""
    body = person_keys.opened(bytes(part.body or b""), about=key)
    address = urlsplit(command.path)
    path = unquote(address.path)
    headers = {**command.headers, "Idempotency-Key": key}
    made = WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path.encode().decode("latin-1"),  # as PEP 3333 has it
            "QUERY_STRING": address.query,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": BytesIO(body),
            ON_BEHALF_OF: command.account,
            FIRST_ITEM: part.first_item,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
        }
    )
    view = resolve(path)
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
    if part.items or part.status == MULTI_STATUS:
        return [item["status"] for item in _results(part)]
    return [part.status or GIVEN_UP["status"]]


class _Told(NamedTuple):
    result: Any = None
    problem: Any = None


def _told(command: RequestedCommand) -> _Told:
    """What its parts were answered, as if they were one."""
    parts = list(command.parts.select_related("answer").order_by("number"))
    if any(part.items for part in parts):
        return _Told(result={"results": [item for part in parts for item in _results(part)]})
    (part,) = parts
    body = _body(part.answer)
    if (part.status or 0) < BAD:
        return _Told(result=body)
    return _Told(problem=body or _nothing_told(part))


def _results(part: RequestedPart) -> Iterator[dict[str, Any]]:
    """What became of each item of a part; where that isn't told item by item, the same of all."""
    body = _body(part.answer)
    if part.status == MULTI_STATUS and isinstance(body, dict):
        yield from body["results"]
        return
    problem = (body if (part.status or 0) >= BAD else None) or _nothing_told(part)
    for number in range(part.items or 1):
        yield {"index": part.first_item + number, "status": problem["status"], "problem": problem}


def _nothing_told(part: RequestedPart) -> dict[str, Any]:
    """Why there's nothing: its answer was emptied or deleted meanwhile, or there never was one."""
    return GIVEN_UP if part.status == GIVEN_UP["status"] and part.answer is None else FORGOTTEN


def _body(answer: SavedAnswer | None) -> Any:
    """What was answered; None once that was forgotten."""
    body = answers.body_of(answer) if answer is not None else None
    return msgspec.json.decode(body) if body else None


def _about(command: UUID, number: int) -> str:
    """The key of a part. It has spaces, so that no client's can be the same."""
    return f"command {command} {number}"
