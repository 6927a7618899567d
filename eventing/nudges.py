"""Tells the workers that there is something to do: a name and a number, and at most one such task waits.

A nudge only saves waiting for the next sweep. It may be lost with the broker, so it never raises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

logger = logging.getLogger(__name__)

LINGER = 0.02  # seconds after which a relay looks once more, so that a writer needn't nudge for each of its events
FORGOTTEN_AFTER = 5  # seconds: a nudge that was lost with its task blocks the next for no longer

RELAY = "eventing.relay"
ADVANCE = "eventing.advance"
PERFORM = "eventing.perform"
SNAPSHOT = "eventing.snapshot"
REPLAY = "eventing.replay"
ALERT = "eventing.alert"
REQUESTED = "eventing.requested"
INBOX = "eventing.inbox"
WEBHOOKS = "eventing.webhooks"


class Nudge(NamedTuple):
    """A task that is wanted, and the queue of those who do it."""

    task: str
    arguments: tuple[str | int, ...] = ()
    queue: str = "eventing"

    @property
    def key(self) -> str:
        """What is remembered in Redis as long as the task waits."""
        return ":".join(["waybill:nudge", self.task, *map(str, self.arguments)])


_relay_nudged_at = -LINGER


def nudge_relay() -> None:
    """There are events in the outbox. Whoever nudged a moment ago is sure that the relay will look again."""
    global _relay_nudged_at
    now = time.monotonic()
    if now - _relay_nudged_at >= LINGER:
        _relay_nudged_at = now
        send([Nudge(RELAY)])


def send(nudges: Sequence[Nudge]) -> None:
    """Send those tasks that don't wait already."""
    if not nudges:
        return
    try:
        with redis().pipeline(transaction=False) as pipeline:
            for nudge in nudges:
                pipeline.set(nudge.key, 1, nx=True, ex=FORGOTTEN_AFTER)
            unsent = [nudge for nudge, is_first in zip(nudges, pipeline.execute(), strict=True) if is_first]
        for nudge in unsent:
            current_app.send_task(
                nudge.task, nudge.arguments, queue=nudge.queue, retry_policy={"max_retries": 1, "interval_start": 0}
            )
    except (RedisError, OperationalError) as error:
        logger.warning("The broker can't be reached, so %s nudges wait for the sweep: %s", len(nudges), error)


def taken_up(nudge: Nudge) -> None:
    """The task begins: what happens from now on needs another nudge."""
    try:
        redis().delete(nudge.key)
    except RedisError as error:
        logger.warning("Redis can't be reached, so nudges wait for the sweep: %s", error)


@cache
def redis() -> Redis:
    """One client a process: it is safe among threads and after a fork."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
