"""Endpoints: registered, changed, switched off and on, and deleted, each act written down.

Whoever changes which events an endpoint hears of holds the walk along the log meanwhile: so it's a position that says
what an endpoint has been told, and not who was faster.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now

from eventing import audit, checkpoints, nudges
from eventing.advance import WAIT
from eventing.domain import Rejected
from eventing.models import Checkpoint
from eventing.statements import run
from eventing.webhooks import deliveries, secrets
from eventing.webhooks.deliveries import Replayed
from eventing.webhooks.models import WebhookDelivery, WebhookEndpoint

logger = logging.getLogger(__name__)

SUBSCRIPTION = "eventing.Webhooks"
MOST = 50  # endpoints of one account


def register(owner: User, *, url: str, description: str, event_types: list[str] | None) -> tuple[WebhookEndpoint, str]:
    """A new endpoint, which hears of what is published from now on, and its secret. Raises Rejected."""
    with _held_walk():
        if WebhookEndpoint.objects.filter(owner=owner).count() >= MOST:
            raise Rejected(f"An account has at most {MOST} endpoints.")
        endpoint = WebhookEndpoint.objects.create(
            owner=owner,
            url=url,
            description=description,
            event_types=event_types,
            after_position=checkpoints.head(),
        )
        audit.note(owner, "registered", endpoint, url=url, event_types=event_types)
        return endpoint, secrets.make(endpoint)


def change(endpoint: WebhookEndpoint, *, who: User, **changes: Any) -> None:
    """Change some of its url, description and event types; or switch it off, or on: what waits is tried at once."""
    with _held_walk():
        asked = dict(changes)
        enabled = changes.pop("enabled", None)
        if enabled is not None:
            off = not enabled
            changes |= {
                "enabled": enabled,
                "disabled_reason": f"Switched off by {who.get_username()}." if off else "",
                "disabled_at": Now() if off else None,
            }
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**changes)
        audit.note(who, "changed", endpoint, **asked)
        if enabled:
            deliveries.release(endpoint.pk)
            _nudge(endpoint.pk)


def switch_off(endpoint: WebhookEndpoint, reason: str) -> None:
    """Send it nothing any more, because of what it answered, or because it may not be sent anything."""
    logger.warning("Webhook %s is switched off: %s", endpoint.pk, reason)
    WebhookEndpoint.objects.filter(pk=endpoint.pk, enabled=True).update(
        enabled=False, disabled_reason=reason, disabled_at=Now()
    )


def delete(endpoint: WebhookEndpoint, *, who: User) -> None:
    """Forget it, with its secrets and all that it was to be sent."""
    with _held_walk():
        audit.note(who, "deleted", endpoint, url=endpoint.url)
        endpoint.delete()


def rotate_secret(endpoint: WebhookEndpoint, *, who: User, valid_for: timedelta) -> tuple[str, datetime]:
    """A new secret, and until when the old ones are valid beside it. Raises Rejected."""
    with transaction.atomic():
        WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
        made = secrets.replace(endpoint, valid_for=valid_for)
        audit.note(who, "rotated the secret", endpoint, old_valid_until=made[1].isoformat())
        return made


def retry(delivery: WebhookDelivery, *, who: User) -> None:
    """Have a delivery made now, with all its attempts. Raises Rejected."""
    with _held_walk():
        if not deliveries.retry(delivery.endpoint_id, delivery.pk):
            raise Rejected(f"Delivery {delivery.pk} is done, or is under way right now.")
        audit.note(who, "retried", delivery.endpoint, delivery=delivery.pk)
        _nudge(delivery.endpoint_id)


def skip(delivery: WebhookDelivery, *, reason: str, who: User) -> None:
    """Give a delivery up, for a written reason; the next of its sequence go on. Raises Rejected."""
    with _held_walk():
        if not deliveries.skip(delivery.endpoint_id, delivery.pk, reason=reason):
            raise Rejected(f"Delivery {delivery.pk} isn't open, or is under way right now.")
        audit.note(who, "skipped", delivery.endpoint, delivery=delivery.pk, reason=reason)
        _nudge(delivery.endpoint_id)


def replay(endpoint: WebhookEndpoint, *, types: Sequence[str], since: int, done_too: bool, who: User) -> Replayed:
    """Send it again what it missed behind a position, of `deliveries.MOST_REPLAYED` events at most."""
    with _held_walk():
        walked = Checkpoint.objects.get(subscription=SUBSCRIPTION, partition=0).position
        replayed = deliveries.replay(endpoint.pk, types, since=since, until=walked, done_too=done_too)
        audit.note(who, "replayed", endpoint, since=since, until=replayed.position, deliveries=replayed.deliveries)
        _nudge(endpoint.pk)
        return replayed


def _nudge(endpoint_id: UUID) -> None:
    transaction.on_commit(partial(nudges.send, [deliveries.nudge_for(endpoint_id)]), robust=True)


@contextmanager
def _held_walk() -> Iterator[None]:
    """Nobody walks the log for webhooks until the end of this transaction."""
    with transaction.atomic():
        run(WAIT, {"subscription": SUBSCRIPTION, "partition": 0})
        yield
