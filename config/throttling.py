"""How many requests an account may make: counted in Redis, which all web processes share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from eventing import nudges, requested

if TYPE_CHECKING:  # it reads the settings, which name this module
    from rest_framework.views import APIView

WINDOW = 60  # seconds
COUNTED = "waybill.rate"

logger = logging.getLogger(__name__)


class Rate(NamedTuple):
    """Where a request stands: how many its window allows, how many are left, and seconds until the next."""

    policy: str
    limit: int
    left: int
    seconds: int


class RequestsAMinute(BaseThrottle):
    """So many a minute for each account, and for each address of those who aren't known. While Redis is away
    nobody is held up."""

    rate: Rate | None = None

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request, and say whether it's one too many."""
        if requested.is_on_behalf(request):
            return True
        now = _now()
        known = request.user.is_authenticated
        policy, limit = ("account", settings.API_RATE) if known else ("address", settings.API_RATE_ANONYMOUS)
        who = request.user.pk if known else self.get_ident(request)
        try:
            count = _count(f"waybill:rate:{policy}:{who}:{now // WINDOW}")
        except RedisError as error:
            logger.warning("Redis can't be reached, so requests aren't counted: %s", error)
            return True
        self.rate = Rate(policy, limit, max(0, limit - count), WINDOW - now % WINDOW)
        request.META[COUNTED] = self.rate
        return bool(count <= limit)

    def wait(self) -> float | None:
        """Seconds until the next window."""
        return float(self.rate.seconds) if self.rate else None


class RateLimitHeaders(MiddlewareMixin):
    """Tells each client where it stands, as the IETF's draft "RateLimit header fields for HTTP" has it."""

    async_capable = False
    get_response: Callable[[HttpRequest], HttpResponseBase]

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        rate = request.META.get(COUNTED)
        if isinstance(rate, Rate):
            response["RateLimit-Policy"] = f'"{rate.policy}";q={rate.limit};w={WINDOW}'
            response["RateLimit"] = f'"{rate.policy}";r={rate.left};t={rate.seconds}'
        return response


def _now() -> int:
    return int(time.time())


def _count(name: str) -> int:
    """One more, in one round trip. Django's cache would connect anew for each request of a web process."""
    with nudges.redis().pipeline(transaction=False) as pipeline:
        pipeline.incr(name)
        pipeline.expire(name, 2 * WINDOW)
        count: int = pipeline.execute()[0]
    return count
