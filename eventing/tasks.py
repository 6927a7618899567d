"""The Celery tasks. A message carries names and numbers; what there is to do stands in the database."""

from __future__ import annotations

import time
from uuid import UUID

from celery import shared_task

from eventing import alerts, inbox, nudges, replay, requested, snapshots, sweeping
from eventing.advance import advance, remind_due, retry_due
from eventing.effects import EffectSubscription, perform_due
from eventing.nudges import Nudge
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.subscriptions import Subscription, subscription_named
from eventing.webhooks import announcing, deliveries
from eventing.webhooks.endpoints import SUBSCRIPTION

BUDGET = 5.0  # seconds a task works before it lets others have the worker


@shared_task(name=nudges.RELAY)
def relay() -> None:
    """Move what is committed from the outbox to the log, and look again as long as writers rely on that."""
    nudges.taken_up(Nudge(nudges.RELAY))
    for pause in (0, nudges.LINGER):
        time.sleep(pause)
        for _ in relay_all():
            pass


@shared_task(name=nudges.ADVANCE)
def advance_partition(name: str, partition: int) -> None:
    """Let one partition of a subscription catch up: events first, then parked ones that are due, then reminders."""
    subscription = subscription_named(name)
    nudges.taken_up(subscription.nudge_for(partition))
    until = time.monotonic() + BUDGET
    while _step(subscription, partition):
        if time.monotonic() > until:
            nudges.send([subscription.nudge_for(partition)])
            return


@shared_task(name=nudges.PERFORM)
def perform(name: str) -> None:
    """Perform the jobs of an effect that are due."""
    effect = subscription_named(name)
    if isinstance(effect, EffectSubscription):
        nudges.taken_up(effect.nudge_to_perform)
        if perform_due(effect, budget=BUDGET):
            nudges.send([effect.nudge_to_perform])


@shared_task(name=nudges.SNAPSHOT)
def take_snapshot(category: str, stream_id: str) -> None:
    """Keep the state of an aggregate that has gained many events."""
    stream = Stream(category, stream_id)
    nudges.taken_up(Nudge(nudges.SNAPSHOT, stream))
    snapshots.take(stream)


@shared_task(name=nudges.REPLAY)
def replay_projection(name: str) -> None:
    """Go on with a replay that is left to the workers."""
    projection = replay.projection_named(name)
    nudges.taken_up(replay.nudge_for(projection))
    if replay.work_on(projection, budget=BUDGET):
        nudges.send([replay.nudge_for(projection)])


@shared_task(name=nudges.ALERT)
def alert() -> None:
    """Tell somebody of letters that need a person."""
    nudges.taken_up(Nudge(nudges.ALERT))
    alerts.tell()


@shared_task(name=nudges.REQUESTED)
def carry_out_requested() -> None:
    """Carry out what was accepted to be done later."""
    nudges.taken_up(Nudge(nudges.REQUESTED))
    until = time.monotonic() + BUDGET
    while requested.work():
        if time.monotonic() > until:
            nudges.send([Nudge(nudges.REQUESTED)])
            return


@shared_task(name=nudges.INBOX)
def hear() -> None:
    """Understand what others told by webhooks."""
    nudges.taken_up(Nudge(nudges.INBOX))
    until = time.monotonic() + BUDGET
    while inbox.work():
        if time.monotonic() > until:
            nudges.send([Nudge(nudges.INBOX)])
            return


@shared_task(name=nudges.WEBHOOKS)
def send_webhooks(endpoint: str) -> None:
    """Send an endpoint what is due."""
    endpoint_id = UUID(endpoint)
    nudges.taken_up(deliveries.nudge_for(endpoint_id))
    if announcing.send_due(subscription_named(SUBSCRIPTION), endpoint_id, budget=BUDGET):
        nudges.send([deliveries.nudge_for(endpoint_id)])


@shared_task(name="eventing.sweep")
def sweep() -> None:
    """Find all work that waits, whatever became of the nudge for it."""
    sweeping.sweep()


def _step(subscription: Subscription, partition: int) -> bool:
    if advance(subscription, partition):
        return True
    if isinstance(subscription, EffectSubscription):
        return False
    return retry_due(subscription, partition) or remind_due(subscription, partition)
