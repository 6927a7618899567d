"""Stored events that today's code can't read, found before a deploy does."""

from __future__ import annotations

from uuid import UUID

import msgspec

from eventing.records import Stored, decode
from eventing.statements import run

# One pass over the table, by as many processes as the server gives it. Ids grow with time, and as text they can be
# compared by every supported server.
PAIRS = """
SELECT type, schema_version, count(*), min(id::text)::uuid, max(id::text)::uuid
FROM eventing_event GROUP BY type, schema_version ORDER BY type, schema_version
"""

EXAMPLES = "SELECT id, type, schema_version, data::text FROM eventing_event WHERE id = ANY(%(ids)s)"


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one type and schema version that can't be read: how many there are, one of them, and why."""

    type: str
    schema_version: int
    events: int
    example: UUID
    problem: str


def unreadable() -> list[Unreadable]:
    """The pairs of type and schema version that stored events have and of which the oldest or the newest event can't
    be read."""
    pairs = run(PAIRS)
    ids = [id for *_, oldest, newest in pairs for id in (oldest, newest)]
    stored = {id: Stored(*columns) for id, *columns in run(EXAMPLES, {"ids": ids})}
    found = []
    for type, version, events, *examples in pairs:
        for id in examples:
            if (problem := _problem(stored[id])) is not None:
                found.append(Unreadable(type=type, schema_version=version, events=events, example=id, problem=problem))
                break
    return found


def _problem(stored: Stored) -> str | None:
    try:
        decode(stored)
    except LookupError as error:  # no class or no upcaster: the message says what to do
        return str(error)
    except Exception as error:
        return repr(error)
    return None
