"""Somebody who follows a live stream over HTTP, and comes back with what they saw last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2

PATIENCE = 30.0  # seconds without a line after which a test has failed


class Message(NamedTuple):
    """An event as it came."""

    id: int
    type: str
    data: dict[str, Any]


class Listener:
    """Follows one stream, as a browser does."""

    def __init__(self, address: str, token: str, *, last: int | None = None) -> None:
        self.address, self.last = address, last
        self.comments = 0
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}

    @contextmanager
    def listening(self) -> Iterator[Iterator[Message | None]]:
        """What comes until the stream ends: events, and None for what only shows that it lives."""
        resuming = {} if self.last is None else {"Last-Event-ID": str(self.last)}
        with httpx2.stream("GET", self.address, headers=self._headers | resuming, timeout=PATIENCE) as answer:
            if answer.status_code != 200:
                answer.read()
            answer.raise_for_status()
            yield self._messages(answer.iter_lines())

    def _messages(self, lines: Iterator[str]) -> Iterator[Message | None]:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if line and name:
                fields[name] = value
            elif line:
                self.comments += 1
            else:
                self.last = int(fields.get("id", self.last or 0))
                yield Message(self.last, fields["event"], json.loads(fields["data"])) if "data" in fields else None
                fields = {}
