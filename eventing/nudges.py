"""Tells the workers that there is something to do: a name and a number, and at most one such task waits.

A nudge only saves waiting for the next sweep. It may be lost with the broker, so it never raises.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import Any

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

logger = logging.getLogger(__name__)

LINGER = 0.005  # seconds that a relay looks on after its last event, so that a writer needn't nudge for each of its own
FORGOTTEN_AFTER = 5  # seconds: a nudge that was lost with its task blocks the next for no longer

RELAY = "eventing.relay"
ADVANCE = "eventing.advance"
PERFORM = "eventing.perform"


_relay_nudged_at = -LINGER


def nudge_relay() -> None:
    """There are events in the outbox. Whoever nudged a moment ago is sure that the relay will look again."""
    global _relay_nudged_at
    now = time.monotonic()
    if now - _relay_nudged_at >= LINGER:
        _relay_nudged_at = now
        _nudge(RELAY)


def nudge_advance(subscription: str, partition: int) -> None:
    """There are events, letters or reminders for a partition."""
    _nudge(ADVANCE, subscription, partition)


def nudge_perform(subscription: str, queue: str) -> None:
    """There are jobs for an effect."""
    _nudge(PERFORM, subscription, queue=queue)


def taken_up(task: str, *arguments: Any) -> None:
    """The task begins: what happens from now on needs another nudge."""
    try:
        _redis().delete(_key(task, arguments))
    except RedisError as error:
        logger.warning("Redis can't be reached, so nudges wait for the sweep: %s", error)


def _nudge(task: str, *arguments: Any, queue: str = "eventing") -> None:
    try:
        if _redis().set(_key(task, arguments), 1, nx=True, ex=FORGOTTEN_AFTER):
            current_app.send_task(task, arguments, queue=queue, retry_policy={"max_retries": 1, "interval_start": 0})
    except (RedisError, OperationalError) as error:
        logger.warning("The broker can't be reached, so %s waits for the sweep: %s", task, error)


@cache
def _redis() -> Redis:
    """One client a process: it is safe among threads and after a fork."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def _key(task: str, arguments: tuple[Any, ...]) -> str:
    return ":".join(["waybill:nudge", task, *map(str, arguments)])
