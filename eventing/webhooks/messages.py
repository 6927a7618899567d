"""What is sent: an event in the shape of Standard Webhooks, small enough for every receiver."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from eventing import personal
from eventing.records import Record

LARGEST = 20_000  # bytes
TEST = "webhook.test"


def about(record: Record, *, with_personal_data: bool) -> bytes:
    """An event as a body. Of one that is too large the largest fields are left out, and named in `left_out`."""
    event = msgspec.to_builtins(record.event) if with_personal_data else personal.hidden(record.event)
    data = {
        "id": str(record.id),
        "stream": str(record.stream),
        "version": record.version,
        "position": record.position,
        "event": event,
    }
    left_out: list[str] = []
    while len(body := _body(record.event.stored_name, record.occurred_at, data)) > LARGEST and event:
        largest = max(event, key=lambda name: len(msgspec.json.encode(event[name])))
        del event[largest]
        left_out.append(largest)
        data["left_out"] = left_out
    return body


def test(now: datetime, endpoint_id: str) -> bytes:
    """The body that tries an endpoint out."""
    return _body(TEST, now, {"endpoint_id": endpoint_id})


def _body(type: str, moment: datetime, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": type, "timestamp": moment, "data": data})
