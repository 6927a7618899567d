"""Is the log whole? Every position and event, read and computed again, and what is found wrong named by its place.

Reads in chunks, each in a transaction of its own, and keeps nothing but the findings, so that it can run beside
everything else for as long as it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from django.db import InterfaceError, OperationalError

from eventing import chain, checkpoints, snapshots
from eventing.records import Stored, Stream, decode_all
from eventing.snapshots import Verdict
from eventing.statements import run

CHUNK = 1000  # positions
SHOWN = 20  # findings of a kind

# One chunk of the log with its events, and with where the event before in the stream is: a look-up in an index for
# each. The number of rows is no parameter, because the plan depends on its being small.
READ = f"""
SELECT log.position, log.event_id, log.type, log.link, {chain.content_of("event")}, event.id, event.category,
    event.stream_id, event.version, event.type, event.schema_version, event.data::text, before.id, earlier.position
FROM (
    SELECT * FROM eventing_log WHERE position >= %(start)s AND position <= %(head)s ORDER BY position LIMIT {CHUNK}
) log
LEFT JOIN eventing_event event ON event.id = log.event_id
LEFT JOIN eventing_event before ON before.category = event.category AND before.stream_id = event.stream_id
    AND before.version = event.version - 1
LEFT JOIN eventing_log earlier ON earlier.event_id = before.id
ORDER BY log.position
"""

LINK = "SELECT link FROM eventing_log WHERE position = %(position)s"

IS_CHAINED = "SELECT EXISTS (SELECT FROM eventing_log WHERE position < %(start)s AND link IS NOT NULL)"

# Events that the relay will never see. Those of a transaction that is under way are invisible, with their outbox rows.
UNPLACED = f"""
SELECT count(*) OVER (), category, stream_id, version, type FROM eventing_event event
WHERE NOT EXISTS (SELECT FROM eventing_log WHERE event_id = event.id AND position > 0)
    AND NOT EXISTS (SELECT FROM eventing_outbox WHERE event_id = event.id)
LIMIT {SHOWN}
"""

# Rows that no relay has taken for a minute, and those that it should never take.
STALE = f"""
SELECT count(*) OVER (), outbox.id, outbox.type, event.category, event.stream_id, log.position,
    extract(epoch FROM statement_timestamp() - outbox.created_at)::bigint
FROM eventing_outbox outbox
LEFT JOIN eventing_event event ON event.id = outbox.event_id
LEFT JOIN eventing_log log ON log.event_id = outbox.event_id
WHERE outbox.created_at < statement_timestamp() - interval '1 minute' OR event.id IS NULL OR log.position IS NOT NULL
ORDER BY outbox.id LIMIT {SHOWN}
"""

AHEAD = f"""
SELECT count(*) OVER (), subscription, partition, position FROM eventing_checkpoint
WHERE position > (SELECT coalesce(max(position), 0) FROM eventing_log) ORDER BY subscription, partition LIMIT {SHOWN}
"""


class Check(StrEnum):
    """What can be wrong."""

    POSITIONS = "positions"
    EVENTS = "events"
    TYPES = "types"
    VERSIONS = "versions"
    OUTBOX = "outbox"
    PAYLOADS = "payloads"
    CHECKPOINTS = "checkpoints"
    CHAIN = "chain"
    EXPECTED = "expected"
    SNAPSHOTS = "snapshots"


QUESTIONS = {
    Check.POSITIONS: "positions are dense from 1",
    Check.EVENTS: "every position has its event, and every event its position",
    Check.TYPES: "the log and its events agree on types",
    Check.VERSIONS: "versions are dense in each stream, and in order in the log",
    Check.OUTBOX: "events are relayed within a minute",
    Check.PAYLOADS: "every event can be read",
    Check.CHECKPOINTS: "no subscription is ahead of the log",
    Check.CHAIN: "the hash chain is intact",
    Check.EXPECTED: "the log is the one that was written down",
    Check.SNAPSHOTS: "snapshots are what their events make",
}

REMEDIES = {
    Check.POSITIONS: "Rows of eventing_log were removed. Restore them from a backup, and find out who can.",
    Check.EVENTS: "Rows of eventing_event or of eventing_log were removed or added. Compare with a backup.",
    Check.TYPES: "The type was changed in one of the tables: the chain tells in which one. Compare with a backup.",
    Check.VERSIONS: "An event was removed, changed or moved. Compare the stream with a backup.",
    Check.OUTBOX: "See that workers run, or relay with `manage.py relay_outbox --once`; what is refused is logged.",
    Check.PAYLOADS: "Let `manage.py check_event_schemas --against-database` say what the code lacks. If it lacks "
    "nothing, the payload was changed: compare with a backup.",
    Check.CHECKPOINTS: "The log is older than the read models, as after restoring a part: restore the whole "
    "database, or replay the read models with `manage.py replay_projection --all --in-place`.",
    Check.CHAIN: "The row was changed after it was recorded. Compare it with a backup; where two in a row don't fit, "
    "it's the first one's link that was changed.",
    Check.EXPECTED: "The log was written anew, or cut off, since then. Compare with a backup.",
    Check.SNAPSHOTS: "Delete the row of eventing_snapshot; until the next one is taken, loading reads more events.",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and where; null where it has no place in the log, or belongs to no stream."""

    problem: str
    position: int | None = None
    stream: str | None = None

    def __str__(self) -> str:
        place = [f"position {self.position:,}"] if self.position is not None else []
        place += [self.stream] if self.stream else []
        return f"{', '.join(place)}: {self.problem}" if place else self.problem


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question: how many things are wrong, the first of them, and what to do."""

    check: Check
    question: str
    count: int
    first: list[Finding]
    remedy: str


class Link(NamedTuple):
    """A position of the log and its link: what an operator writes down, and compares with later."""

    position: int
    link: bytes | None

    def __str__(self) -> str:
        return f"{self.position}:{self.link.hex() if self.link else ''}"


class Row(NamedTuple):
    """A position of the log, the event that is said to be there, and the place of the one before in its stream."""

    position: int
    event_id: UUID
    logged_type: str
    link: bytes | None
    content: bytes
    id: UUID | None
    category: str
    stream_id: str
    version: int
    type: str
    schema_version: int
    data: str
    before: UUID | None
    earlier: int | None


class Verification:
    """One walk through the log, from position ``start`` to where its head was at the beginning; ``next`` is where to
    go on. What surrounds the log is looked at as a whole, wherever the walk starts."""

    def __init__(self, start: int = 1, *, expected: Link | None = None) -> None:
        self.head = checkpoints.head()
        self.start = self.next = self._at = start
        self.unchained = 0
        self.snapshots: Counter[Verdict] = Counter()
        self._expected = expected
        self._counts: Counter[Check] = Counter()
        self._first: dict[Check, list[Finding]] = {check: [] for check in Check}

    def findings(self) -> list[Findings]:
        """The answers to all questions."""
        return [
            Findings(
                check=check,
                question=QUESTIONS[check],
                count=self._counts[check],
                first=self._first[check],
                remedy=REMEDIES[check],
            )
            for check in Check
        ]

    def end(self) -> Link:
        """The last position that was verified, and its link."""
        return _link_at(self.next - 1) or Link(self.next - 1, None)

    def steps(self) -> Iterator[int]:
        """Look around, and then walk. Yields how many positions are done."""
        self._look_around()
        before = _link_at(self.start - 1) if self.start > 1 else Link(0, None)
        chained = bool(run(IS_CHAINED, {"start": self.start})[0][0])
        while self.next <= self.head:
            rows = [Row(*row) for row in run(READ, {"start": self.next, "head": self.head})]
            for row in rows:
                self._verify_position(row)
                self._verify_event(row)
                self._verify_link(row, before, chained=chained)
                before, chained = Link(row.position, row.link), chained or row.link is not None
            self._verify_payloads([row for row in rows if row.id])
            if len(rows) < CHUNK:
                self._arrive_at(self.head + 1)
            self.next = self._at
            yield self.next - self.start

    def snapshot_steps(self) -> Iterator[int]:
        """Compute all snapshots again. Yields how many are done."""
        for done, each in enumerate(snapshots.verify(), 1):
            self.snapshots[each.verdict] += 1
            if each.verdict is Verdict.WRONG:
                problem = f"version {each.version}: {each.problem}"
                self._add(Check.SNAPSHOTS, Finding(problem=problem, stream=str(each.stream)))
            yield done

    def _look_around(self) -> None:
        for category, stream_id, version, type in self._ask(Check.EVENTS, UNPLACED):
            problem = f"version {version}, {type}, has no position and isn't in the outbox."
            self._add(Check.EVENTS, Finding(problem=problem, stream=str(Stream(category, stream_id))))
        for id, type, category, stream_id, position, age in self._ask(Check.OUTBOX, STALE):
            if category is None:
                problem = "is for an event that doesn't exist."
            elif position is not None:
                problem = "is for an event that has its position already."
            else:
                problem = f"has waited for {age:,} s."
            stream = str(Stream(category, stream_id)) if category else None
            self._add(Check.OUTBOX, Finding(problem=f"row {id}, {type}, {problem}", position=position, stream=stream))
        for subscription, partition, position in self._ask(Check.CHECKPOINTS, AHEAD):
            problem = f"partition {partition} of {subscription} has come further than the log, to {self.head:,}."
            self._add(Check.CHECKPOINTS, Finding(problem=problem, position=position))
        if self._expected:
            self._verify_expected(self._expected)

    def _ask(self, check: Check, statement: LiteralString) -> list[tuple[Any, ...]]:
        """The first rows that a statement finds. Their number comes first in each; those that it leaves out count."""
        rows = run(statement)
        self._counts[check] += rows[0][0] - len(rows) if rows else 0
        return [row[1:] for row in rows]

    def _verify_expected(self, expected: Link) -> None:
        actual = _link_at(expected.position)
        if actual is None:
            problem = f"isn't there; the log ends at {self.head:,}."
        elif actual != expected:
            problem = f"the link is {actual.link.hex()}." if actual.link else "has no link."
        else:
            return
        self._add(Check.EXPECTED, Finding(problem=problem, position=expected.position))

    def _verify_position(self, row: Row) -> None:
        self._arrive_at(row.position)
        self._at += 1

    def _arrive_at(self, position: int) -> None:
        """Note what is missing from where the walk is up to this position."""
        if missing := position - self._at:
            problem = f"missing, as are all up to {position - 1:,}." if missing > 1 else "missing."
            self._add(Check.POSITIONS, Finding(problem=problem, position=self._at), count=missing)
            self._at = position

    def _verify_event(self, row: Row) -> None:
        if row.id is None:
            self._add_row(Check.EVENTS, row, f"event {row.event_id}, {row.logged_type}, doesn't exist.")
            return
        if row.logged_type != row.type:
            self._add_row(Check.TYPES, row, f"{row.logged_type} in the log, {row.type} in the event.")
        if row.version > 1 and row.before is None:
            self._add_row(Check.VERSIONS, row, f"version {row.version}, and there's no version {row.version - 1}.")
        elif row.earlier is not None and row.earlier > row.position:
            self._add_row(
                Check.VERSIONS, row, f"version {row.version}, and version {row.version - 1} is at {row.earlier:,}."
            )

    def _verify_link(self, row: Row, before: Link | None, *, chained: bool) -> None:
        if row.link is None:
            self.unchained += 1
            if chained and chain.is_on():
                self._add_row(Check.CHAIN, row, "no link, after others that have one.")
        elif before is None or before.position != row.position - 1 or row.id is None:
            return  # what is missing has been noted, and nothing can be computed without it
        elif row.link != chain.link(before.link, row.position, row.content):
            self._add_row(Check.CHAIN, row, f"the link doesn't fit {row.type}, version {row.version}.")

    def _verify_payloads(self, rows: Sequence[Row]) -> None:
        if _problem(rows) is None:
            return
        for row in rows:
            if problem := _problem([row]):
                self._add_row(Check.PAYLOADS, row, f"{row.type}, version {row.version}: {problem}")

    def _add_row(self, check: Check, row: Row, problem: str) -> None:
        stream = str(Stream(row.category, row.stream_id)) if row.id else None
        self._add(check, Finding(problem=problem, position=row.position, stream=stream))

    def _add(self, check: Check, finding: Finding, *, count: int = 1) -> None:
        self._counts[check] += count
        if len(self._first[check]) < SHOWN:
            self._first[check].append(finding)


def _problem(rows: Sequence[Row]) -> str | None:
    """Why today's code can't read one of these events."""
    try:
        decode_all([Stored(row.type, row.schema_version, row.data) for row in rows])
    except (OperationalError, InterfaceError):
        raise  # the server's fault, not the event's
    except LookupError as error:
        return str(error)  # no class or no upcaster: the message says what to do
    except Exception as error:
        return repr(error)
    return None


def _link_at(position: int) -> Link | None:
    """The link of a position; None where the log has no such position."""
    rows = run(LINK, {"position": position})
    return Link(position, rows[0][0]) if rows else None
