"""What requests and answers say in their headers."""

from __future__ import annotations

import re
from typing import NamedTuple

from django.http import HttpRequest
from django.utils.http import parse_etags
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

CONSISTENCY_TOKEN = "Consistency-Token"  # noqa: S105 # a header, no secret

LONGEST_WAIT = 10.0  # seconds

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_VERSION = re.compile(r'"([1-9][0-9]{0,8})"')
_WAIT = re.compile(r"wait\s*=\s*([0-9]{1,6})", re.IGNORECASE)


class BadHeader(ValidationError):
    """A header that can't be accepted."""

    def __init__(self, name: str, complaint: str) -> None:
        super().__init__({name: [complaint]})


class BadParameter(ValidationError):
    """Query parameters that can't be accepted, where a body can."""

    def __init__(self, complaints: dict[str, str]) -> None:
        super().__init__({name: [complaint] for name, complaint in complaints.items()})


class Preferences(NamedTuple):
    """What a request prefers, by RFC 7240: to be answered before it's carried out, and how many seconds it waits."""

    respond_async: bool
    wait: float | None


def preferences(request: Request) -> Preferences:
    """The request's preferences. One that isn't known, or isn't well-formed, is ignored."""
    given = [each.strip() for each in request.headers.get("Prefer", "").replace(";", ",").split(",")]
    waits = [float(found[1]) for each in given if (found := _WAIT.fullmatch(each))]
    return Preferences(
        "respond-async" in (each.lower() for each in given), min(waits[0], LONGEST_WAIT) if waits else None
    )


def etag(version: int) -> str:
    """The version of an aggregate as an entity tag."""
    return f'"{version}"'


def is_known(request: Request, version: int) -> bool:
    """Whether who asks has this version already, by `If-None-Match`."""
    known = {tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))}
    return bool(known & {etag(version), "*"})


def wanted_versions(request: Request) -> frozenset[int] | None:
    """The versions of which one has to be the present one, by `If-Match`; None when any will do. A weak tag matches
    nothing. Raises BadHeader."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return None
    tags = [tag.strip() for tag in given.split(",")]
    if not all(_ENTITY_TAG.fullmatch(tag) for tag in tags):
        raise BadHeader("If-Match", 'This is not an entity tag, such as "3" with its quotes.')
    return frozenset(int(found[1]) for tag in tags if (found := _VERSION.fullmatch(tag)))


def traceparent(request: Request | HttpRequest) -> str:
    """The request's W3C traceparent header; empty when there is none, or none that is valid."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else ""


def trace_id(request: Request | HttpRequest) -> str:
    """The trace that the request says it belongs to, as 32 hexadecimal digits; empty when it says none."""
    return traceparent(request)[3:35]
