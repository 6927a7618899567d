"""The AsyncAPI document: which events are published where and how they look, for those who listen from outside."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from inspect import cleandoc
from typing import Any
from uuid import UUID

import msgspec

from eventing.avro_schema import schema_of
from eventing.golden import golden_payload
from eventing.kinds import Kind, aggregates, emitted_by


class Payloads(StrEnum):
    """In what the document describes payloads."""

    JSONSCHEMA = "jsonschema"
    AVRO = "avro"


class Headers(msgspec.Struct, kw_only=True):
    """What is known about an event's recording: its version counts in its stream, its position among all events."""

    id: UUID
    type: str
    schema_version: int
    category: str
    stream_id: str
    version: int
    position: int
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: UUID
    causation_id: UUID | None
    actor: str
    traceparent: str


def asyncapi(payloads: Payloads = Payloads.JSONSCHEMA) -> dict[str, Any]:
    """The AsyncAPI 3.1 document of every event that an aggregate records: a channel for each category of streams.
    Raises Undescribable."""
    kinds = sorted(aggregates(), key=lambda kind: kind.category)
    events = sorted({event for kind in kinds for event in emitted_by(kind)}, key=lambda event: event.stored_name)
    if payloads is Payloads.AVRO:
        (headers,), schemas = _json_schemas(Headers)
        described = [
            {"schemaFormat": "application/vnd.apache.avro+json;version=1.9.0", "schema": schema_of(event)}
            for event in events
        ]
        content_type = "application/vnd.apache.avro"
    else:
        (headers, *described), schemas = _json_schemas(Headers, *events)
        content_type = "application/json"
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Waybill",
            "version": "1",
            "description": "Every event that is recorded.",
        },
        "defaultContentType": content_type,
        "channels": {kind.category: _channel(kind) for kind in kinds},
        "operations": {f"publish-{kind.category}": _operation(kind) for kind in kinds},
        "components": {
            "messages": {
                event.stored_name: {
                    "name": event.stored_name,
                    "title": event.__name__,
                    "description": cleandoc(event.__doc__ or ""),
                    "traits": [_to("components", "messageTraits", "recorded")],
                    "payload": payload,
                    "examples": [{"payload": golden_payload(event)}],
                }
                for event, payload in zip(events, described, strict=True)
            },
            "messageTraits": {
                "recorded": {"headers": headers, "correlationId": {"location": "$message.header#/correlation_id"}}
            },
            "schemas": schemas,
        },
    }


def _json_schemas(*types: type[msgspec.Struct]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")


def _channel(kind: Kind) -> dict[str, Any]:
    return {
        "address": kind.category,
        "description": cleandoc(kind.__doc__ or ""),
        "messages": {each.stored_name: _to("components", "messages", each.stored_name) for each in emitted_by(kind)},
    }


def _operation(kind: Kind) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": _to("channels", kind.category),
        "messages": [_to("channels", kind.category, "messages", each.stored_name) for each in emitted_by(kind)],
    }


def _to(*path: str) -> dict[str, str]:
    return {"$ref": f"#/{'/'.join(path)}"}
