"""Walks the log for all endpoints, and sends what is due to each of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from django.contrib.auth.models import User
from django.db import OperationalError, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from eventing import checkpoints, context, nudges
from eventing.deliveries import NeverEnded, describe
from eventing.records import Record, event_classes
from eventing.statements import give_back
from eventing.subscriptions import Subscription
from eventing.webhooks import deliveries, endpoints, messages, secrets, sending
from eventing.webhooks.deliveries import Claim
from eventing.webhooks.models import WebhookEndpoint
from eventing.webhooks.sending import Answer

logger = logging.getLogger(__name__)

GONE = 410
PERSONAL = "eventing.view_personal_data"
MANAGE = "eventing.manage_webhooks"


class WebhookSubscription(Subscription):
    """The place in the log up to which all endpoints have their deliveries. It only makes rows, so no endpoint holds
    it up; and one partition, for making a row is no work.

    Made after all apps are there, so that it can name every event that any of them knows. It hears of the others too,
    which only a newer program knows while it's being installed: these fail here, and wait for a worker that does.
    """

    kind = "webhook"
    starts_at_head = True
    hears_of_all = True

    def __init__(self) -> None:
        super().__init__(name=endpoints.SUBSCRIPTION, events=())
        self.types = sorted(event.stored_name for event in event_classes() if event.stored_name)

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Make a delivery of each record for each endpoint that asked for it."""
        context.about_to("schedule webhooks")
        for endpoint in WebhookEndpoint.objects.filter(enabled=True).order_by("pk"):
            if wanted := [record for record in records if endpoint.hears_of(record.event.stored_name, record.position)]:
                deliveries.make(endpoint.pk, wanted)
                transaction.on_commit(partial(nudges.send, [deliveries.nudge_for(endpoint.pk)]), robust=True)
        return len(records)


def send_due(subscription: Subscription, endpoint_id: UUID, *, budget: float) -> bool:
    """Send an endpoint what is due, one message at a time, for ``budget`` seconds at most. Returns whether there may be
    more. Several workers may be at it, each with another sequence."""
    until = time.monotonic() + budget
    while checkpoints.is_running(subscription, partition=0):
        claim = deliveries.claim(endpoint_id)
        if claim is None:
            return False
        nudges.send([deliveries.nudge_for(endpoint_id)])  # there may be more, and another worker that is free
        _attempt(endpoint_id, claim)
        if time.monotonic() > until:
            return True
    return False


def try_out(endpoint: WebhookEndpoint) -> Answer:
    """Send an endpoint a message that says nothing, now and once, outside of the order of events."""
    body, valid = messages.test(timezone.now(), str(endpoint.pk)), secrets.valid(endpoint.pk)
    give_back()  # whoever isn't answered would keep it from everybody else
    return sending.send(endpoint.url, id=str(uuid7()), body=body, secrets=valid)


def _attempt(endpoint_id: UUID, claim: Claim) -> None:
    endpoint = WebhookEndpoint.objects.select_related("owner").filter(pk=endpoint_id).first()
    if endpoint is None:
        return  # deleted since, and its deliveries with it
    answer = _sent(endpoint, claim)
    deliveries.settle(claim, answer)
    if not answer.is_success:
        logger.warning("Webhook %s at %s, attempt %s: %s", endpoint_id, claim.position, claim.attempt, answer.error)
    if answer.status == GONE:
        endpoints.switch_off(endpoint, "It answered 410: the receiver wants no more.")


def _sent(endpoint: WebhookEndpoint, claim: Claim) -> Answer:
    owner: User = endpoint.owner
    if claim.is_worn_out:
        return Answer(None, describe(NeverEnded(f"Begun {claim.attempt - 1} times and never ended.")), 0)
    if not owner.has_perm(MANAGE):
        endpoints.switch_off(endpoint, "Its account may not have webhooks any more.")
        return Answer(None, "Not sent: the account may not have webhooks any more.", 0)
    may_see = owner.has_perm(PERSONAL)
    try:
        body = messages.about(claim.record, with_personal_data=may_see)
        valid = secrets.valid(endpoint.pk)
    except OperationalError:
        raise  # the server's fault, not the event's
    except Exception as error:
        logger.exception("Webhook %s at %s can't be written", endpoint.pk, claim.position)
        return Answer(None, f"Not sent: {type(error).__name__}, a fault of ours.", 0)
    answer = sending.send(endpoint.url, id=str(claim.row[0]), body=body, secrets=valid)
    return answer.without_excerpt() if may_see else answer  # it may repeat what it was told of a person
