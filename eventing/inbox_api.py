"""Where others tell us of their own accord: signed instead of authenticated, and answered before it's understood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from eventing import inbox

LONGEST_ID = 255


class SignatureRefused(APIException):
    """Whoever it is, they aren't who they're said to be."""

    status_code, default_code = 400, "invalid-signature"


class HeardSerializer(serializers.Serializer[Any]):
    """Whether it's heard for the first time."""

    new = serializers.BooleanField()


class WebhookFrom(APIView):
    """Takes what a provider tells. The signature is over the body as it came, so the body isn't parsed here."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    source: ClassVar[str]

    def provider(self) -> tuple[str, Callable[[bytes, Mapping[str, str]], str]]:
        """The provider in use, and what verifies that something is its own."""
        raise NotImplementedError

    @extend_schema(request={"application/json": {"type": "object"}}, responses=HeardSerializer, auth=[])
    def post(self, request: Request, provider: str) -> Response:
        """For the provider that is in use. It's signed in the provider's own manner, not older than five minutes, and
        answered once it's kept; what was told before is answered the same, and not heard again."""
        name, verify = self.provider()
        if provider != name:
            raise Http404
        try:
            event_id = verify(request.body, request.headers)
        except inbox.InvalidSignature as error:
            raise SignatureRefused(str(error)) from error
        if not (event_id.isprintable() and 0 < len(event_id) <= LONGEST_ID):
            raise ValidationError(f"The id of what is told has to be 1 to {LONGEST_ID} printable characters.")
        return Response({"new": inbox.keep(self.source, name, event_id, request.body)})
