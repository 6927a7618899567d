"""Aggregates with long streams, as this process last saw them, so that only what has happened since is read.

What is recalled is taken out: whoever holds it may change it, and gives it back once that is committed. A state is
never trusted blindly: the store reads the last event that it has seen again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from eventing.domain import Aggregate
from eventing.records import Stream

CAPACITY = 5_000
WORTH_KEEPING = 8  # events; a shorter stream is as quickly read

_lock = Lock()
_aggregates: OrderedDict[Stream, Aggregate[Any, Any]] = OrderedDict()


def recall(streams: Iterable[Stream]) -> dict[Stream, Aggregate[Any, Any]]:
    """Take out what is remembered of these streams."""
    with _lock:
        return {stream: found for stream in streams if (found := _aggregates.pop(stream, None)) is not None}


def remember(aggregates: Mapping[Stream, Aggregate[Any, Any]]) -> None:
    """Keep aggregates whose every event is committed, and drop the oldest beyond the capacity."""
    with _lock:
        for stream, aggregate in aggregates.items():
            if aggregate.version >= WORTH_KEEPING:
                _aggregates[stream] = aggregate
        while len(_aggregates) > CAPACITY:
            _aggregates.popitem(last=False)


def forget() -> None:
    """Let go of everything."""
    with _lock:
        _aggregates.clear()
