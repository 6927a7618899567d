"""Who has how many streams open, over all processes. A seat is kept by saying so; one that a killed process had is
soon free. While Redis can't be reached nobody is counted, and nobody is turned away."""

from __future__ import annotations

import logging
import time
from math import ceil
from typing import NamedTuple
from uuid import uuid4

from django.conf import settings
from redis import RedisError
from redis.client import Pipeline

from eventing import nudges

logger = logging.getLogger(__name__)

PATIENCE = 3  # heartbeats after which a seat that nobody keeps is free


class Seat(NamedTuple):
    """One open stream of an account."""

    account: str
    id: str

    @property
    def key(self) -> str:
        """The account's seats in Redis, each with the time until which it's kept."""
        return f"waybill:streams:{self.account}"


def take(account: str) -> Seat | None:
    """A seat for one more stream of an account; None when it has as many as it may have."""
    seat = Seat(account, uuid4().hex)
    try:
        with nudges.redis().pipeline() as pipeline:
            pipeline.zremrangebyscore(seat.key, "-inf", time.time())
            _put(pipeline, seat)
            pipeline.zcard(seat.key)
            taken = pipeline.execute()[-1]
    except RedisError as error:
        logger.warning("Redis can't be reached, so open streams aren't counted: %s", error)
        return seat
    if taken > settings.EVENTING["STREAMS"]:
        leave(seat)
        return None
    return seat


def keep(seat: Seat) -> None:
    """Keep a seat for some more heartbeats."""
    try:
        with nudges.redis().pipeline() as pipeline:
            _put(pipeline, seat)
            pipeline.execute()
    except RedisError as error:
        logger.warning("Redis can't be reached, so open streams aren't counted: %s", error)


def leave(seat: Seat) -> None:
    """Give a seat back."""
    try:
        nudges.redis().zrem(seat.key, seat.id)
    except RedisError as error:
        logger.warning("Redis can't be reached, so a stream's seat is free after a while: %s", error)


def _put(pipeline: Pipeline, seat: Seat) -> None:
    seconds = PATIENCE * settings.EVENTING["STREAM_HEARTBEAT_SECONDS"]
    pipeline.zadd(seat.key, {seat.id: time.time() + seconds})
    pipeline.expire(seat.key, ceil(seconds))
