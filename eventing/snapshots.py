"""Snapshots: the state of aggregates with long streams, so that loading one needs only what came after it.

Taken by workers, outside of the commands that made the events. Lost, outdated or missing, they only cost reading more
events; the store never believes one whose last event isn't in the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from django.db import transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from eventing import personal, states, store
from eventing.domain import Aggregate
from eventing.kinds import Kind, UnknownCategory, id_of, kind_of
from eventing.models import Snapshot
from eventing.person_keys import Forgotten
from eventing.records import Stream
from eventing.statements import run

# Replaces a snapshot that is older, or that other code wrote. A worker that comes late changes nothing.
SAVE = """
INSERT INTO eventing_snapshot (category, stream_id, version, last_event_id, fingerprint, state, taken_at)
VALUES (%(category)s, %(stream_id)s, %(version)s, %(last_event_id)s, %(fingerprint)s, %(state)s::jsonb,
    statement_timestamp())
ON CONFLICT (category, stream_id) DO UPDATE
SET version = excluded.version, last_event_id = excluded.last_event_id, fingerprint = excluded.fingerprint,
    state = excluded.state, taken_at = excluded.taken_at
WHERE eventing_snapshot.version < excluded.version OR eventing_snapshot.fingerprint <> excluded.fingerprint
"""


class Verdict(Enum):
    """What came of computing a snapshot again."""

    RIGHT = "right"
    WRONG = "wrong"
    OUTDATED = "outdated"
    UNKNOWN = "unknown"


class Verified(NamedTuple):
    """A snapshot, what came of computing it again, and in words what is wrong with it."""

    stream: Stream
    version: int
    verdict: Verdict
    problem: str = ""


def take(stream: Stream) -> None:
    """Keep the state that an aggregate is in now, unless it tells of a person who is forgotten: nothing can be sealed
    for them any more. Raises UnknownCategory."""
    kind = kind_of(stream.category)
    aggregate = store.load(kind, id_of(kind, stream.id))
    with suppress(Forgotten), transaction.atomic():
        run(
            SAVE,
            {
                "category": stream.category,
                "stream_id": stream.id,
                "version": aggregate.version,
                "last_event_id": aggregate.last_event_id,
                "fingerprint": states.fingerprint(kind),
                "state": states.write(aggregate),
            },
        )


def verify() -> Iterator[Verified]:
    """Compute every snapshot again from the events of its stream, and compare. What other code wrote is outdated: the
    store ignores it, and so does this."""
    rows = Snapshot.objects.order_by("pk").defer("state").annotate(text=Cast("state", TextField()))
    for row in rows.iterator(chunk_size=100):
        stream = Stream(row.category, row.stream_id)
        try:
            kind = kind_of(stream.category)
        except UnknownCategory as error:
            yield Verified(stream, row.version, Verdict.UNKNOWN, str(error))
            continue
        if row.fingerprint != states.fingerprint(kind):
            yield Verified(stream, row.version, Verdict.OUTDATED)
            continue
        problem = _problem(kind, row, row.text)
        yield Verified(stream, row.version, Verdict.WRONG if problem else Verdict.RIGHT, problem)


def _problem(kind: Kind, row: Snapshot, text: str) -> str:
    stream = Stream(row.category, row.stream_id)
    try:
        computed: Aggregate[Any, Any] = kind(id_of(kind, stream.id))
        last_event_id = None
        for record in islice(store.read(stream), row.version):
            computed.apply(record.event)
            last_event_id = record.id
    except (LookupError, ValueError, msgspec.ValidationError) as error:
        return f"The stream can't be read: {error}"
    if last_event_id != row.last_event_id:
        return f"Event {row.version} of the stream isn't the last one that the snapshot has seen."
    try:
        kept = states.state_of(states.read(kind, computed.id, personal.opened([text])[0]))
    except (personal.Unsealable, msgspec.ValidationError) as error:
        return f"The state can't be read: {error}"
    differing = [name for name, value in states.state_of(computed).items() if kept[name] != value]
    return f"The stream's events make another state, in {', '.join(differing)}." if differing else ""
