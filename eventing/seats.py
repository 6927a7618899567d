"""What an account may have only so many of at once, counted over all processes. A seat is kept by saying so; one that
a killed process had is soon free. While Redis can't be reached nobody is counted, and nobody is turned away."""

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

PATIENCE = 3  # heartbeats after which the seat of a stream that nobody keeps is free


class Room(NamedTuple):
    """Where each account has so many seats, and for how many seconds one is held that nobody keeps."""

    name: str
    most: int
    seconds: float


class Seat(NamedTuple):
    """One that an account has taken."""

    room: Room
    account: str
    id: str

    @property
    def key(self) -> str:
        """The account's seats in Redis, each with the time until which it's kept."""
        return f"waybill:{self.room.name}:{self.account}"


def streams() -> Room:
    """Where those sit who have live streams open."""
    eventing = settings.EVENTING
    return Room("streams", eventing["STREAMS"], PATIENCE * eventing["STREAM_HEARTBEAT_SECONDS"])


def take(room: Room, account: str) -> Seat | None:
    """One more seat for an account; None when it has as many as it may have."""
    seat = Seat(room, account, uuid4().hex)
    try:
        with nudges.redis().pipeline() as pipeline:
            pipeline.zremrangebyscore(seat.key, "-inf", time.time())
            _put(pipeline, seat)
            pipeline.zcard(seat.key)
            taken = pipeline.execute()[-1]
    except RedisError as error:
        logger.warning("Redis can't be reached, so open %s aren't counted: %s", room.name, error)
        return seat
    if taken > room.most:
        leave(seat)
        return None
    return seat


def keep(seat: Seat) -> None:
    """Keep a seat for some more time."""
    try:
        with nudges.redis().pipeline() as pipeline:
            _put(pipeline, seat)
            pipeline.execute()
    except RedisError as error:
        logger.warning("Redis can't be reached, so open %s aren't counted: %s", seat.room.name, error)


def leave(seat: Seat) -> None:
    """Give a seat back."""
    try:
        nudges.redis().zrem(seat.key, seat.id)
    except RedisError as error:
        logger.warning("Redis can't be reached, so a seat of %s is free after a while: %s", seat.room.name, error)


def _put(pipeline: Pipeline, seat: Seat) -> None:
    pipeline.zadd(seat.key, {seat.id: time.time() + seat.room.seconds})
    pipeline.expire(seat.key, ceil(seat.room.seconds))
