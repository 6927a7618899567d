"""Who asks: API tokens in the Authorization header."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from eventing import requested

_TOKEN = re.compile(rb"\w{1,128}")


class OnBehalf(BaseAuthentication):
    """A worker, which carries out an earlier request of an account that may have been closed since."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """The account. Raises AuthenticationFailed."""
        account = request.META.get(requested.ON_BEHALF_OF)
        if not isinstance(account, User):
            return None
        if not account.is_active:
            raise AuthenticationFailed("The account that asked for this isn't active any more.")
        return account, None


class BearerToken(TokenAuthentication):  # type: ignore[misc] # Knox has no types
    """`Authorization: Bearer wb_…`, as `manage.py create_api_token` prints it."""

    def authenticate_credentials(self, token: bytes) -> Any:
        """The user and the token. Raises AuthenticationFailed; Knox alone fails on bytes that no token has."""
        if not _TOKEN.fullmatch(token):
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)

    def _cleanup_token(self, auth_token: AuthToken) -> bool:
        """Whether this token has expired. Knox would look at all others of its user too, at each request."""
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()


class BearerTokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """How OpenAPI describes it."""

    target_class = "config.authentication.BearerToken"
    name = "token"


class OnBehalfScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Nobody outside can authenticate like this, so it isn't described."""

    target_class = "config.authentication.OnBehalf"
    name: list[str] = []

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, Any]]:
        return []
