"""A request that is sent again is answered again, and nothing is done twice.

Its client chooses a key for it, in the header `Idempotency-Key`. What was done and the answer to it are committed in
one transaction, so that whoever gets no answer can send the request again until there is one. What was answered is kept
of what was done, and of what a rule forbade; and nothing of a request that couldn't be read, wasn't allowed or failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db import transaction
from django.http import HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import answers, freshness, requested
from eventing.domain import Rejected
from eventing.headers import BadHeader, BadParameter
from eventing.models import SavedAnswer
from eventing.refusals import Refused
from eventing.statements import run

P = ParamSpec("P")
V = TypeVar("V", bound=APIView)
Post = Callable[Concatenate[V, Request, P], Response]

HEADER = "Idempotency-Key"
ACCEPTED = 202

# Held until the end of the transaction. Whoever doesn't get it is told so, instead of waiting.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(%(account)s || ' ' || %(key)s, 0))"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class KeyMissing(APIException):
    """Who makes something has to say under which key."""

    status_code, default_code = 400, "idempotency-key-missing"
    default_detail = f"This request takes the header {HEADER}."


class KeyReused(APIException):
    """The key belongs to another request."""

    status_code, default_code = 422, "idempotency-key-reused"
    default_detail = "This key came with another request before: another method, address or body."


class StillInFlight(APIException):
    """The same request is being answered at this moment."""

    status_code, default_code = 409, "still-in-flight"
    default_detail = "A request with this key is being answered at this moment."
    wait = 1  # seconds


class AnswerForgotten(APIException):
    """What was answered told of somebody who was forgotten since."""

    status_code, default_code = 410, "answer-forgotten"
    default_detail = "This was done before; what was answered told of somebody who was forgotten since."


def idempotent(
    *, key_required: bool = True, can_be_later: bool = True
) -> Callable[[Post[V, P]], Callable[Concatenate[V, Request, P], HttpResponse]]:
    """Make a view's method do what it does once for each key, and tell how far a reader has to see to see it done; or,
    where `Prefer: respond-async` asks for that, have it done later: unless the answer is for nobody but who asks, for
    what became of a command can be seen by others too."""

    def decorate(post: Post[V, P]) -> Callable[Concatenate[V, Request, P], HttpResponse]:
        def answered(view: V, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            _check_address(request)
            key = _key(request, required=key_required)

            def answer() -> Response:
                if can_be_later and requested.is_to_be_later(request):
                    return requested.accept(request)
                return _with_token(post(view, request, *args, **kwargs))

            return _answered_once(view, request, key, answer) if key else _at_once(answer)

        update_wrapper(answered, post)
        # For the description of the API.
        answered.key_required, answered.can_be_later = key_required, can_be_later  # type: ignore[attr-defined]
        return answered

    return decorate


def _at_once(answer: Callable[[], Response]) -> Response:
    with freshness.noting():
        return answer()


def _answered_once(view: APIView, request: Request, key: str, answer: Callable[[], Response]) -> HttpResponse:
    fingerprint = answers.fingerprint(request)
    with transaction.atomic():
        if not run(LOCK, {"account": str(request.user.pk), "key": key})[0][0]:
            raise StillInFlight
        if (saved := answers.kept(request, key)) is not None:
            return _again(saved, fingerprint)
        with freshness.noting() as written:
            response = _rendered(request, _decided(view, answer))
        answers.keep(request, key, fingerprint, response, written.streams)
    return response


def _decided(view: APIView, answer: Callable[[], Response]) -> Response:
    """The answer, be it that a rule forbids it; of what was done before that nothing stays."""
    try:
        with transaction.atomic():
            return answer()
    except (Rejected, Refused) as refusal:
        return view.handle_exception(refusal)


def _again(saved: SavedAnswer, fingerprint: bytes) -> HttpResponse:
    if bytes(saved.fingerprint) != fingerprint:
        raise KeyReused
    if (body := answers.body_of(saved)) is None:
        raise AnswerForgotten
    headers = {**saved.headers, "Idempotent-Replayed": "true"}
    return HttpResponse(body, status=saved.status, headers=headers)


def _rendered(request: Request, response: Response) -> HttpResponse:
    """The answer as bytes, so that the first one and all others are the same."""
    renderer: Any = request.accepted_renderer
    body = b"" if response.data is None else renderer.render(response.data, request.accepted_media_type, {})
    content_type = response.content_type or renderer.media_type
    return HttpResponse(body, status=response.status_code, headers={**response.headers, "Content-Type": content_type})


def _with_token(response: Response) -> Response:
    if response.status_code != ACCEPTED:  # nothing is written yet
        response[freshness.HEADER] = freshness.token()
    return response


def _check_address(request: Request) -> None:
    """Raises BadParameter: somebody who asks for `?dry_run=true` has to hear that nothing of the kind is known."""
    if request.query_params:
        raise BadParameter(dict.fromkeys(request.query_params, "Requests that do something take no parameters."))


def _key(request: Request, *, required: bool) -> str:
    """The key, with or without the quotes that a structured field has. Raises KeyMissing, and BadHeader."""
    given = request.headers.get(HEADER, "")
    if not given and not required:
        return ""
    if not given:
        raise KeyMissing
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not _KEY.fullmatch(key) and not requested.is_on_behalf(request):
        raise BadHeader(HEADER, "A key is 1 to 255 visible ASCII characters, such as a UUID.")
    return key
