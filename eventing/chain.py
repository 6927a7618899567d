"""The hash chain over the log: each link is a SHA-256 over an event, its position and the link before.

Whoever changes or removes a row of the log, by whatever way past its triggers, would have to compute anew every link
after it. An event's digest is computed where it is appended, beside other writers; the relay, of which there is one,
only adds a link for each digest. `verify_events` computes both again.
"""

from __future__ import annotations

from hashlib import sha256
from typing import LiteralString

from django.conf import settings

GENESIS = bytes(32)
"""What stands for the link before, where there is none."""

# All that is stored of an event but its metadata, which are empty, in PostgreSQL's binary format of a row: every field
# with its type and length. The columns are named, so that the table may get more of them.
_CONTENT: LiteralString = """record_send(ROW(
        {row}.id, {row}.category, {row}.stream_id, {row}.version, {row}.type, {row}.schema_version, {row}.data,
        {row}.metadata, {row}.occurred_at, {row}.recorded_at, {row}.correlation_id, {row}.causation_id, {row}.actor,
        {row}.traceparent
    ))"""


def is_on() -> bool:
    """Whether the log is chained from now on."""
    on: bool = settings.EVENTING["HASH_CHAIN"]
    return on


def content_of(row: LiteralString) -> LiteralString:
    """The SQL expression of the bytes that an event's digest is computed over."""
    return _CONTENT.format(row=row)


def link(before: bytes | None, position: int, content: bytes) -> bytes:
    """The link of an event at a position, after a link."""
    return sha256((before or GENESIS) + position.to_bytes(8, "big") + sha256(content).digest()).digest()
