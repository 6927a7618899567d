"""What the API says when the state that things are in forbids what was asked for."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException


class Refused(APIException):
    """A rule forbids it. ``members`` are what the problem tells beside the usual, for programs."""

    status_code, default_code = 409, "rejected"

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members = members


class PreconditionFailed(Refused):
    """It isn't at the version that the request takes it to be at."""

    status_code, default_code = 412, "precondition-failed"
