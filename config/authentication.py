"""Who asks: API tokens in the Authorization header."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

_TOKEN = re.compile(rb"\w{1,128}")


class BearerToken(TokenAuthentication):  # type: ignore[misc] # Knox has no types
    """`Authorization: Bearer wb_…`, as `manage.py create_api_token` prints it."""

    def authenticate_credentials(self, token: bytes) -> Any:
        """The user and the token. Raises AuthenticationFailed; Knox alone fails on bytes that no token has."""
        if not _TOKEN.fullmatch(token):
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)


class BearerTokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """How OpenAPI describes it."""

    target_class = "config.authentication.BearerToken"
    name = "token"
