"""The secrets of endpoints: made, replaced, and kept encrypted with the key that only the environment has."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from eventing import person_keys
from eventing.domain import Rejected
from eventing.statements import run
from eventing.webhooks.models import WebhookEndpoint, WebhookSecret

BYTES = 32
MOST_VALID = 5  # each is another signature in a header

REPLACE = """
UPDATE eventing_webhook_secret SET expires_at = least(expires_at, statement_timestamp() + %(valid_for)s)
WHERE endpoint_id = %(endpoint)s
RETURNING expires_at
"""

HOW_MANY = "SELECT wrapped_with, count(*) FROM eventing_webhook_secret GROUP BY wrapped_with ORDER BY 1"


def make(endpoint: WebhookEndpoint) -> str:
    """A new secret. Nobody is shown it again."""
    secret = f"whsec_{b64encode(os.urandom(BYTES)).decode()}"
    name, wrapped = person_keys.wrap(_about(endpoint.pk), secret.encode())
    WebhookSecret.objects.create(endpoint=endpoint, wrapped=wrapped, wrapped_with=name)
    return secret


def replace(endpoint: WebhookEndpoint, *, valid_for: timedelta) -> tuple[str, datetime]:
    """A new secret, and until when the old ones are still valid beside it. In a transaction. Raises Rejected when there
    are too many valid ones."""
    WebhookSecret.objects.filter(endpoint=endpoint, expires_at__lte=Now()).delete()
    expiries = [row[0] for row in run(REPLACE, {"endpoint": endpoint.pk, "valid_for": valid_for})]
    if valid_for and len(expiries) >= MOST_VALID:
        raise Rejected(f"{len(expiries)} secrets are valid already. Wait until one expires, or let them expire now.")
    return make(endpoint), max(expiries)


def valid(endpoint_id: UUID) -> list[str]:
    """The secrets to sign with, the newest first. Raises UnknownWrappingKey."""
    rows = WebhookSecret.objects.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), endpoint_id=endpoint_id)
    return [_opened(row) for row in rows.order_by("-pk")]


def rotate() -> int:
    """Encrypt all secrets anew with the first key of the environment, in the running transaction. Returns how many. One
    whose old wrapping isn't known is left alone."""
    name, known = person_keys.wrapping_names()[0], person_keys.wrapping_names()
    old = WebhookSecret.objects.filter(wrapped_with__in=known).exclude(wrapped_with=name).select_for_update()
    for row in old:
        row.wrapped_with, row.wrapped = person_keys.wrap(_about(row.endpoint_id), _opened(row).encode())
        row.save(update_fields=["wrapped_with", "wrapped"])
    return len(old)


def wrapped_by() -> dict[str, int]:
    """How many secrets each key of the environment encrypts, by its name."""
    return dict(run(HOW_MANY))


def _opened(row: WebhookSecret) -> str:
    return person_keys.unwrap(_about(row.endpoint_id), bytes(row.wrapped), row.wrapped_with).decode()


def _about(endpoint_id: UUID) -> str:
    return f"webhook endpoint {endpoint_id}"
