"""Hints that the log has grown, from the relay to every stream that is open in any process.

A hint says nothing but that it's worth reading again. Whoever misses one reads a moment later, so sending never raises.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from django.conf import settings
from redis import RedisError
from redis.asyncio import Redis

from eventing import nudges

logger = logging.getLogger(__name__)

CHANNEL = "waybill:log"
PAUSE = 1.0  # seconds until a connection that was lost is tried again
STRAGGLE = 1.0  # seconds that a stream may still take to send what it has when the server stops


def send() -> None:
    """Say that the log has grown."""
    try:
        nudges.redis().publish(CHANNEL, b"")
    except RedisError as error:
        logger.warning("Redis can't be reached, so open streams look for themselves: %s", error)


class Ear:
    """What one stream hears: that it's worth reading again, and that the server stops."""

    def __init__(self) -> None:
        self.closing = False
        self._hint = asyncio.Event()
        self._task = asyncio.current_task()

    def hear(self) -> None:
        """A hint came."""
        self._hint.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the next hint since the last wait, no longer than that many seconds."""
        # `wait_for` of Python 3.11 swallows a cancellation that comes together with a hint.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._hint.wait()
        self._hint.clear()

    def close(self) -> None:
        """The server stops: the stream ends by itself, or is cut off when its client reads no more."""
        self.closing = True
        self._hint.set()
        asyncio.get_running_loop().call_later(STRAGGLE, self.cut_off)

    def cut_off(self) -> None:
        """End the stream wherever it is."""
        if self._task is not None:
            self._task.cancel()


class Listener:
    """Listens once for all streams of its process: one connection to Redis while there is any stream, and soon none
    when there isn't. All of it happens in the thread of the event loop."""

    def __init__(self) -> None:
        self._ears: set[Ear] = set()
        self._listening: asyncio.Task[None] | None = None
        self._stopping = False
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[Ear]:
        """An ear that hears, as long as the block lasts."""
        ear = Ear()
        ear.closing = self._stopping
        if not self._ears:
            self._watch_for_the_end()
        self._ears.add(ear)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield ear
        finally:
            self._ears.discard(ear)
            if not self._ears:
                self._stop_watching()

    async def _listen(self) -> None:
        """Pass on what comes through Redis as long as there's a stream."""
        reached = True
        while self._ears:
            try:
                async with (
                    Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2) as redis,
                    redis.pubsub() as hints,
                ):
                    await hints.subscribe(CHANNEL)
                    reached = True
                    while self._ears:
                        if await hints.get_message(timeout=PAUSE) is not None:
                            self._tell()
            except (RedisError, OSError) as error:
                if reached:
                    logger.warning("Redis can't be reached, so open streams look for themselves: %s", error)
                reached = False
                await asyncio.sleep(PAUSE)

    def _tell(self) -> None:
        for ear in self._ears:
            ear.hear()

    def _watch_for_the_end(self) -> None:
        """Hear of the server's end before the server does, which would wait for its streams and not tell them."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if callable(server := signal.getsignal(number)):
                self._handlers[number] = signal.signal(number, self._ending(loop, server))

    def _stop_watching(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ending(
        self, loop: asyncio.AbstractEventLoop, server: Callable[[int, FrameType | None], Any]
    ) -> Callable[[int, FrameType | None], None]:
        def end(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            loop.call_soon_threadsafe(self._close)
            server(number, frame)

        return end

    def _close(self) -> None:
        for ear in self._ears:
            ear.close()


listener = Listener()
