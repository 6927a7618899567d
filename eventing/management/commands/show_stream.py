from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Column, Table

from eventing import states, store
from eventing.kinds import Kind, UnknownCategory, id_of, kind_of
from eventing.management.terminal import terminal
from eventing.records import Record, Stream, UnknownEvent
from eventing.states import Change
from eventing.upcasting import UnknownVersion

SHOWN = 50  # events, to a person who doesn't ask for more
BRIEF = 100  # characters of a value


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the stream. ``position`` is null until the relay has given it one."""

    version: int
    position: int | None
    type: str
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    data: Any

    @classmethod
    def of(cls, record: Record) -> Entry:
        """What is shown of a record."""
        return cls(
            version=record.version,
            position=record.position or None,
            type=record.event.stored_name,
            occurred_at=record.occurred_at,
            recorded_at=record.recorded_at,
            actor=record.actor,
            data=_plain(record.event),
        )


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A stream up to a version, and the state that these events make."""

    stream: str
    version: int
    events: list[Entry]
    state: dict[str, Any]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What the events after one version, up to another, have changed."""

    stream: str
    before: int
    after: int
    events: list[Entry]
    changes: list[Change]


class Command(BaseCommand):
    help = (
        "Show the events of one stream and the state that they make: now, after a number of events, or as the log "
        "knew it at a time; or what changed between two versions. "
        "Exit codes: 0 shown, 1 there's no such stream or version, or failure, 2 usage."
    )

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Here --version is the stream's, and not Django's."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **options)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("category", help="of the stream, such as order or stock")
        parser.add_argument("id", help="of the aggregate: a UUID, or for stock the SKU")
        then = parser.add_mutually_exclusive_group()
        then.add_argument("--version", type=int, metavar="N", help="as of the stream's first N events")
        then.add_argument(
            "--at",
            type=_time,
            metavar="TIME",
            help="as of what was recorded by then: 2026-11-23T04:30, with a zone such as +01:00 or else in UTC",
        )
        then.add_argument(
            "--diff", type=int, nargs=2, metavar=("V1", "V2"), help="what changed between two versions, and by what"
        )
        parser.add_argument(
            "--last", type=int, default=0, metavar="N", help=f"only the last N events ({SHOWN}; all with --json)"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(
        self,
        *args: Any,
        category: str,
        id: str,
        version: int | None,
        at: datetime | None,
        diff: Sequence[int] | None,
        last: int,
        json: bool,
        **options: Any,
    ) -> None:
        kind, known = _known(category, id)
        limit = last or (store.LATEST if json else SHOWN)
        if diff and not 0 <= diff[0] < diff[1]:
            raise CommandError(
                f"The first version has to be before the second: --diff {diff[1]} {diff[0]}.", returncode=2
            )
        if last < 0:
            raise CommandError("--last takes a number of events from 1 on.", returncode=2)
        if not store.version(Stream.of(kind, known)):
            raise CommandError(f"There are no events of {category} {id}.")
        try:
            found = (
                _difference(kind, known, diff[0], diff[1], limit) if diff else _state(kind, known, version, at, limit)
            )
        except (store.NoSuchVersion, UnknownEvent, UnknownVersion, msgspec.ValidationError) as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(msgspec.json.encode(found).decode())
        else:
            show(found, terminal(width=200))


def show(found: State | Difference, console: Console) -> None:
    """Print it for a person."""
    match found:
        case State():
            console.print(f"{found.stream} at version {found.version}")
            _show_events(found.events, 0, console)
            table = Table("Attribute", f"State at version {found.version}")
            for name, value in _flat(found.state):
                table.add_row(name, _brief(value))
        case Difference():
            console.print(f"{found.stream} from version {found.before} to {found.after}")
            _show_events(found.events, found.before, console)
            table = Table("Attribute", f"Version {found.before}", f"Version {found.after}")
            for change in found.changes:
                table.add_row(change.attribute, _brief(change.before), _brief(change.after))
    console.print(table)


def _show_events(events: Sequence[Entry], after: int, console: Console) -> None:
    table = Table(
        Column("Version", justify="right"), Column("Position", justify="right"), "Recorded (UTC)", "Event", "By", "Data"
    )
    for each in events:
        table.add_row(
            f"{each.version:,}",
            f"{each.position:,}" if each.position else "not yet",
            _when(each),
            each.type,
            each.actor,
            _brief(", ".join(f"{name}: {_brief(value)}" for name, value in _flat(each.data))),
        )
    console.print(table)
    if events and events[0].version > after + 1:
        console.print(f"Earlier events aren't shown: --last {events[-1].version - after} shows all.")


def _state(kind: Kind, id: UUID | str, version: int | None, at: datetime | None, limit: int) -> State:
    aggregate = store.load(kind, id, version=version, at=at)
    stream = Stream.of(kind, id)
    return State(
        stream=str(stream),
        version=aggregate.version,
        events=_entries(stream, 0, aggregate.version, limit),
        state=_plain(states.state_of(aggregate)),
    )


def _difference(kind: Kind, id: UUID | str, before: int, after: int, limit: int) -> Difference:
    old, new = (states.state_of(store.load(kind, id, version=version)) for version in (before, after))
    stream = Stream.of(kind, id)
    return Difference(
        stream=str(stream),
        before=before,
        after=after,
        events=_entries(stream, before, after, limit),
        changes=[
            Change(change.attribute, _plain(change.before), _plain(change.after)) for change in states.changes(old, new)
        ],
    )


def _entries(stream: Stream, after: int, until: int, limit: int) -> list[Entry]:
    """The events after one version up to another; the last of them, when there are more than the limit."""
    start = max(after, until - limit) + 1
    return [Entry.of(record) for record in islice(store.read(stream, start=start), until - start + 1)]


def _known(category: str, id: str) -> tuple[Kind, UUID | str]:
    try:
        kind = kind_of(category)
        return kind, id_of(kind, id)
    except (UnknownCategory, ValueError) as error:
        raise CommandError(str(error), returncode=2) from error


def _time(text: str) -> datetime:
    """A time as ISO 8601 writes it; one without a zone is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-11-23T04:30.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _when(entry: Entry) -> str:
    recorded, occurred = (
        f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for time in (entry.recorded_at, entry.occurred_at)
    )
    return recorded if abs(entry.recorded_at - entry.occurred_at).total_seconds() < 1 else f"{recorded}\nof {occurred}"


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, order="deterministic", enc_hook=str, str_keys=True)


def _flat(fields: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """The fields, and the fields of fields, by name."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", value


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"
