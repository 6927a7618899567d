"""What the API says when something is wrong: RFC 9457, the same shape for every error below `/api/`."""

from __future__ import annotations

import logging
import secrets
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.encoding import escape_uri_path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import ErrorResponse, ExceptionHandlerContext
from rest_framework import exceptions
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from config.throttling import COUNTED
from eventing.domain import Rejected
from eventing.freshness import ProjectionBehind
from eventing.headers import BadHeader, BadParameter, trace_id
from eventing.refusals import PreconditionFailed, Refused
from eventing.store import ConflictError, UnexpectedVersion

CONTENT_TYPE = "application/problem+json"
MOST_ERRORS = 100  # of one request that are listed

logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """A kind of problem: its title is the same each time, and `advice` is for the developer who runs into it."""

    status: int
    title: str
    advice: str

    @property
    def advice_as_html(self) -> SafeString:
        """The advice, in which what stands in backticks is code."""
        parts = enumerate(self.advice.split("`"))
        return format_html_join(
            "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in parts)
        )


# The names that DRF gives its errors, and our own. They are part of the API: clients compare with them.
PROBLEMS = {
    "invalid": Problem(
        400,
        "Fields can't be accepted",
        "Each entry of `errors` points to one field of the body, as a JSON pointer, or names a query parameter or a "
        "header, and "
        "says what is wrong with it. Nothing has been done. Correct the fields and send the request again.",
    ),
    "idempotency-key-missing": Problem(
        400,
        "The request has no key",
        "What makes something takes the header `Idempotency-Key`: a name for this request that you choose, such as a "
        "UUID, and send again when you send the request again. It's done once then, however often it arrives.",
    ),
    "invalid-signature": Problem(
        400,
        "The signature isn't valid",
        "Sign the body as it's sent, with the secret that both sides have, and send it within five minutes.",
    ),
    "parse-error": Problem(
        400,
        "The request can't be read",
        "The body has to be one JSON text in UTF-8 in which no object has the same name twice. `detail` says where "
        "reading stopped.",
    ),
    "authentication-failed": Problem(
        401,
        "The token isn't valid",
        "The token is misspelt, has expired or was revoked. Make another with `manage.py create_api_token`.",
    ),
    "not-authenticated": Problem(
        401,
        "Who asks isn't known",
        "Send `Authorization: Bearer` and a token that `manage.py create_api_token` made.",
    ),
    "permission-denied": Problem(
        403,
        "The account may not do this",
        "Ask an administrator for the permission that `detail` names, or use an account that has it.",
    ),
    "not-found": Problem(
        404,
        "There is nothing here",
        "The address is misspelt, or what it names doesn't exist or belongs to somebody else.",
    ),
    "method-not-allowed": Problem(405, "The method isn't offered here", "The `Allow` header says which ones are."),
    "not-acceptable": Problem(
        406,
        "No such format is offered",
        "Send `Accept: application/json`, or for a stream `Accept: text/event-stream`.",
    ),
    "rejected": Problem(
        409,
        "A rule forbids it",
        "The request was understood, but the state that things are in forbids it. `detail` says why. The same "
        "request will fail again until that state changes.",
    ),
    "conflict": Problem(
        409,
        "Others were first",
        "Others changed the same thing at the same moment, several times. Nothing has been done. Send the request "
        "again after the seconds that `Retry-After` says.",
    ),
    "price-changed": Problem(
        409,
        "A price isn't what the customer saw",
        "`prices` tells for each such line what was seen and what it is now. Nothing has been done. Show the customer "
        "the present prices, and send the order with them, or without any, under a new key.",
    ),
    "still-in-flight": Problem(
        409,
        "The same request is being answered",
        "A request with this `Idempotency-Key` is at work at this moment. Send it again after the seconds that "
        "`Retry-After` says: it will be answered as the first one was.",
    ),
    "answer-forgotten": Problem(
        410,
        "What was answered is forgotten",
        "A request with this `Idempotency-Key` was carried out. Its answer told of somebody who was forgotten since.",
    ),
    "precondition-failed": Problem(
        412,
        "It has another version",
        "It isn't at the version that `If-Match` names, but at `current_version`. Nothing has been done. Get it, look "
        "at what has changed, and ask again.",
    ),
    "idempotency-key-reused": Problem(
        422,
        "The key belongs to another request",
        "A request with this `Idempotency-Key` came before, and was another one: another method, address or body. Each "
        "request has its own key; only the very same one is sent again with it.",
    ),
    "length-required": Problem(411, "The body's length isn't known", "Send the `Content-Length` header."),
    "body-too-large": Problem(413, "The body is too large", "`detail` says how much it may have."),
    "unsupported-media-type": Problem(415, "The body isn't JSON", "Send `Content-Type: application/json`."),
    "throttled": Problem(429, "Too many requests", "Wait for the seconds that `Retry-After` says."),
    "error": Problem(
        500,
        "Something went wrong here",
        "This is our fault. Tell the operators the `trace_id`; their logs have it too.",
    ),
    "projection-behind": Problem(
        503,
        "The read model isn't that far yet",
        "What you want to see was recorded, and isn't shown yet, or there is no such version. Ask again after the "
        "seconds that `Retry-After` says, wait longer with `Prefer: wait=10`, or read `?source=stream`, which is never "
        "behind.",
    ),
    "not-live": Problem(
        501,
        "This server has no live streams",
        "Streams take a server that speaks ASGI, such as the one that `make run` starts; Django's own `runserver` "
        "doesn't. The history of an order tells the same.",
    ),
    "unavailable": Problem(
        503,
        "A service is not available",
        "Send the request again after the seconds that `Retry-After` says. Whether it was carried out is not known: "
        "with its `Idempotency-Key` it can safely be sent again.",
    ),
}


class OthersWereFirst(exceptions.APIException):
    """Every attempt met another writer."""

    status_code, default_code = 409, "conflict"
    default_detail = "Others changed the same thing at the same moment."
    wait = 1  # seconds


class Unavailable(exceptions.APIException):
    """The database doesn't answer."""

    status_code, default_code = 503, "unavailable"
    default_detail = "The database can't be reached."
    wait = 5  # seconds


class ProblemHandler(ExceptionHandler):
    """Turns what a view raises into a problem."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        match exc:
            case Rejected():
                return Refused(str(exc))
            case UnexpectedVersion():
                return PreconditionFailed(f"It is at version {exc.actual}.", current_version=exc.actual)
            case ConflictError():
                return OthersWereFirst()
            case OperationalError() | InterfaceError():
                return Unavailable()
            case SuspiciousOperation() | BadRequest():
                return exceptions.ParseError()
            case exceptions.AuthenticationFailed() | exceptions.NotAuthenticated() | exceptions.PermissionDenied():
                return self._counted(exc)
            case _:
                return super().convert_known_exceptions(exc)

    def _counted(self, exc: exceptions.APIException) -> exceptions.APIException:
        """Who isn't let in is counted too, or tokens could be guessed as fast as one can; DRF doesn't come to it."""
        view, request = self.context["view"], _of(self.context)
        try:
            if COUNTED not in request.META:
                view.check_throttles(request)
        except exceptions.Throttled as throttled:
            return throttled
        return exc

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Response:
        request = _of(self.context)
        # Whatever the view would have answered with, and whatever was asked for, a problem is JSON.
        request.accepted_renderer = JSONRenderer()
        request.accepted_media_type = JSONRenderer.media_type
        response = super().get_response(exc, data)
        response.content_type = CONTENT_TYPE
        if exc.status_code >= 500 and not isinstance(exc, ProjectionBehind):
            logger.error("Trace %s: %s", data["trace_id"], type(self.exc).__name__)
        return response


def _of(context: ExceptionHandlerContext) -> Request:
    """The request, which every view has by the time that something goes wrong in it."""
    return cast(Request, context["request"])


class ProblemFormatter(ExceptionFormatter):
    """Writes an error as problem details."""

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        request = self.context["request"]
        code = self.exc.default_code.replace("_", "-")
        if isinstance(self.exc, Refused):
            return {**details(request, code, error_response.errors[0].detail), **self.exc.members}
        if not isinstance(self.exc, ValidationError):
            return details(request, code, error_response.errors[0].detail)
        found = error_response.errors
        listed = [
            {
                **_place(self.exc, request, error.attr),
                "code": error.code,
                "detail": error.detail,
            }
            for error in found[:MOST_ERRORS]
        ]
        summary = f"{len(found)} things have to be corrected." if len(found) > 1 else found[0].detail
        if len(found) > MOST_ERRORS:  # nobody has read on to count them
            summary = f"More than {MOST_ERRORS} things have to be corrected; the first {MOST_ERRORS} are listed."
        return {**details(request, code, summary), "errors": listed}


def _place(error: ValidationError, request: Request | None, attribute: str | None) -> dict[str, str]:
    """Where an error is: a header, a query parameter, or a JSON pointer into the body."""
    if isinstance(error, BadHeader):
        return {"header": attribute or ""}
    steps = [step for step in (attribute or "").split("/") if step and step != "non_field_errors"]
    if isinstance(error, BadParameter) or (request is not None and request.method in ("GET", "HEAD")):
        return {"parameter": "/".join(steps)}
    return {"pointer": "#" + "".join(f"/{quote(step, safe='~', errors='replace')}" for step in steps)}


def details(request: Request | HttpRequest | None, code: str, detail: str) -> dict[str, Any]:
    """The members of a problem. The trace is the request's own, or a new one to find it by."""
    problem = PROBLEMS[code]
    return {
        "type": reverse("problem", args=[code]),
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": escape_uri_path(request.path) if request else "",
        "code": code,
        "trace_id": (trace_id(request) if request else "") or secrets.token_hex(16),
    }


def response(request: HttpRequest, code: str, detail: str) -> HttpResponse:
    """A problem, for where DRF isn't at work."""
    return JsonResponse(details(request, code, detail), status=PROBLEMS[code].status, content_type=CONTENT_TYPE)


def is_for_api(request: HttpRequest) -> bool:
    """Whether a program asks, and not a person with a browser."""
    return request.path.startswith("/api/")


@csrf_exempt  # whoever is in the wrong place is told so, whatever they bring along
def nothing_here(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answers requests for what doesn't exist."""
    if is_for_api(request):
        return response(request, "not-found", "Nothing has this address.")
    return defaults.page_not_found(request, exception or Http404())


def cannot_be_read(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers requests that Django refuses to look at."""
    if is_for_api(request):
        return response(request, "parse-error", "The request can't be read.")
    return defaults.bad_request(request, exception)


def not_allowed(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answers requests that Django refuses to serve."""
    if is_for_api(request):
        return response(request, "permission-denied", "This isn't allowed.")
    return defaults.permission_denied(request, exception)


def went_wrong(request: HttpRequest) -> HttpResponse:
    """Answers requests that ended in an error outside any view of DRF."""
    if not is_for_api(request):
        return defaults.server_error(request)
    answer = details(request, "error", "Something went wrong here.")
    logger.error("Trace %s: %s", answer["trace_id"], request.path)
    return JsonResponse(answer, status=500, content_type=CONTENT_TYPE)


def problem_page(request: HttpRequest, code: str) -> HttpResponse:
    """What a problem's `type` leads to."""
    if code not in PROBLEMS:
        raise Http404
    return render(request, "problem.html", {"code": code, "problem": PROBLEMS[code]})


def problems_page(request: HttpRequest) -> HttpResponse:
    """Every kind of problem."""
    return render(request, "problems.html", {"problems": PROBLEMS})


def describe(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Adds problems to the OpenAPI document: every operation may answer with one."""
    result["components"].setdefault("schemas", {})["Problem"] = _SCHEMA
    answer = {
        "description": "What was wrong: RFC 9457 problem details.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    result["components"].setdefault("responses", {})["Problem"] = answer
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    return result


_TEXT = {"type": "string"}
_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "A page about this kind of problem."},
        "title": {"type": "string", "description": "The same for every problem of the kind."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong this time, for people."},
        "instance": {"type": "string", "format": "uri-reference", "description": "The path that was asked for."},
        "code": {"type": "string", "enum": list(PROBLEMS)},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "errors": {
            "type": "array",
            "description": "The fields that can't be accepted.",
            "items": {
                "type": "object",
                "required": ["code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "A JSON pointer into the body, like #/lines/0/sku."},
                    "parameter": {"type": "string", "description": "The name of a query parameter."},
                    "header": {"type": "string", "description": "The name of a header."},
                    "code": _TEXT,
                    "detail": _TEXT,
                },
            },
        },
    },
}
