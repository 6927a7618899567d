"""Whether today's code can read every event ever stored: classes and upcasters are compared with the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from eventing.avro_schema import Schema, Undescribable, schema_of
from eventing.contracts import Contract, committed, published
from eventing.domain import Event
from eventing.subscriptions import name_of, subscriptions
from eventing.upcasting import Payload, UnknownVersion, upcast, upcasters

Contracts = dict[tuple[str, int], Contract]

ACCEPT = "Run `manage.py check_event_schemas --accept`, and commit what it writes."


class Mode(StrEnum):
    """Who has to read whom: today's code the events of before, the code of before today's events, or both."""

    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"


class Rule(StrEnum):
    """What can be broken."""

    NAME_MISMATCH = "name_mismatch"
    FIXED_SIZE_MISMATCH = "fixed_size_mismatch"
    MISSING_ENUM_SYMBOLS = "missing_enum_symbols"
    READER_FIELD_MISSING_DEFAULT_VALUE = "reader_field_missing_default_value"
    TYPE_MISMATCH = "type_mismatch"
    MISSING_UNION_BRANCH = "missing_union_branch"
    UNDESCRIBABLE = "undescribable"
    NOT_COMMITTED = "not_committed"
    NOT_ACCEPTED = "not_accepted"
    CODE_LOST = "code_lost"
    CONTRACT_LOST = "contract_lost"
    UNREADABLE = "unreadable"
    UNORDERED = "unordered"
    UPCASTER_MISSING = "upcaster_missing"
    UPCASTER_TWICE = "upcaster_twice"
    UPCASTER_TOO_MUCH = "upcaster_too_much"
    UPCASTER_OF_NO_EVENT = "upcaster_of_no_event"


AVRO_RULES = frozenset(
    {
        Rule.NAME_MISMATCH,
        Rule.FIXED_SIZE_MISMATCH,
        Rule.MISSING_ENUM_SYMBOLS,
        Rule.READER_FIELD_MISSING_DEFAULT_VALUE,
        Rule.TYPE_MISMATCH,
        Rule.MISSING_UNION_BRANCH,
    }
)
"""What Avro says of an incompatible change."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong with a version of an event, and what to do about it. A field within a field is named
    as ``lines.quantity``."""

    event: str
    version: int
    field: str = ""
    rule: Rule
    problem: str
    remedy: str


def findings(mode: Mode = Mode.BACKWARD) -> list[Finding]:
    """Everything that is wrong with the events of the running program. Raises ValueError for a file that isn't JSON."""
    contracts, events = committed(), published()
    return [
        *(finding for event in events for finding in _of_event(event, contracts, mode)),
        *_of_lost_code(events, contracts),
        *_of_upcasters(events),
    ]


def _of_event(event: type[Event], contracts: Contracts, mode: Mode) -> Iterator[Finding]:
    name, newest = event.stored_name, event.schema_version
    own = contracts.get((name, newest))
    try:
        schema = schema_of(event)
    except Undescribable as error:
        yield Finding(
            event=name,
            version=newest,
            field=error.field,
            rule=Rule.UNDESCRIBABLE,
            problem=f"{name} can't be described by an Avro schema: {error}.",
            remedy="Choose what Avro knows; `eventing.avro_schema` has the list.",
        )
        return
    broken = list(_incompatible(event, schema, own or contracts.get((name, newest - 1)), mode))
    yield from broken
    if own is None or not own.payloads:
        problem = f"Version {newest} of {name} has no committed schema and payload."
        yield Finding(event=name, version=newest, rule=Rule.NOT_COMMITTED, problem=problem, remedy=ACCEPT)
    elif own.schema != schema and not broken:
        problem = f"{name} has changed since it was committed, compatibly."
        yield Finding(event=name, version=newest, rule=Rule.NOT_ACCEPTED, problem=problem, remedy=ACCEPT)
    for version in range(1, newest + (not broken)):
        yield from _of_payloads(event, version, contracts.get((name, version)))


def _incompatible(event: type[Event], schema: Schema, base: Contract | None, mode: Mode) -> Iterator[Finding]:
    if base is None or base.schema == schema:
        return
    if mode is not Mode.FORWARD and base.version == event.schema_version:  # upcasters read what is older
        yield from _unreadable_to_us(event, schema, base)
    if mode is not Mode.BACKWARD:
        yield from _unreadable_to_others(schema, base)


def _unreadable_to_us(event: type[Event], schema: Schema, stored: Contract) -> Iterator[Finding]:
    from eventing.compatibility import incompatibilities  # avro is slow to import, and only needed for a difference

    name, version = stored.subject, stored.version
    for field, rule, message in incompatibilities(reader=schema, writer=stored.schema):
        missing = rule == Rule.READER_FIELD_MISSING_DEFAULT_VALUE
        yield Finding(
            event=name,
            version=version,
            field=field,
            rule=Rule(rule),
            problem=f"{name}: stored events of version {version} don't have {field}, and there's no default."
            if missing
            else f"{name}: stored events of version {version} have a {field} that can't be read: {message}.",
            remedy=f"{'Give it a default' if missing else 'Leave it as it was'}, or make it version {version + 1}, "
            f"with a function @upcasts({event.__name__}, from_version={version}) in its context's `upcasters`.",
        )


def _unreadable_to_others(schema: Schema, known: Contract) -> Iterator[Finding]:
    from eventing.compatibility import incompatibilities  # as above

    name, version = known.subject, known.version
    for field, rule, message in incompatibilities(reader=known.schema, writer=schema):
        missing = rule == Rule.READER_FIELD_MISSING_DEFAULT_VALUE
        yield Finding(
            event=name,
            version=version,
            field=field,
            rule=Rule(rule),
            problem=f"{name}: who knows version {version} as committed needs {field}, which is gone."
            if missing
            else f"{name}: who knows version {version} as committed can't read {field}: {message}.",
            remedy="Give it a default, and remove it once all readers know of that."
            if missing
            else "Leave it as it was, and add a field beside it.",
        )


def _of_payloads(event: type[Event], version: int, contract: Contract | None) -> Iterator[Finding]:
    """Each payload of a version is read by today's code, and brings what events are ordered by. The store looks for
    that in the data as they were stored, so no upcaster can rename it."""
    name = event.stored_name
    if contract is None and version < event.schema_version:
        yield Finding(
            event=name,
            version=version,
            rule=Rule.CONTRACT_LOST,
            problem=f"Version {version} of {name} has no committed schema and payload.",
            remedy="Restore its files from version control: without them nothing shows that such events are readable.",
        )
    for file, payload in contract.payloads.items() if contract else ():
        if (error := _failure(event, version, payload)) is not None:
            yield Finding(
                event=name,
                version=version,
                rule=Rule.UNREADABLE,
                problem=f"{name}: {file} can't be read as version {event.schema_version}: {error!r}.",
                remedy="Such events are stored. Correct the upcasters, or give new fields a default.",
            )
        for key in sorted({each.key for each in subscriptions() if event in each.events} - {"", *payload}):
            yield Finding(
                event=name,
                version=version,
                field=key,
                rule=Rule.UNORDERED,
                problem=f"{name}: {file} doesn't have {key}, by which a subscription orders the event.",
                remedy="Such events would be passed over: keep the field's name, or order by another one.",
            )


def _failure(event: type[Event], version: int, payload: Payload) -> Exception | None:
    data = msgspec.json.encode(payload).decode()
    try:
        msgspec.json.decode(upcast(event, version, data) if version < event.schema_version else data, type=event)
    except UnknownVersion:
        return None  # the step that is missing is a finding of its own
    except Exception as error:
        return error
    return None


def _of_lost_code(events: list[type[Event]], contracts: Contracts) -> Iterator[Finding]:
    versions = {event.stored_name: event.schema_version for event in events}
    for name, version in contracts:
        if version > versions.get(name, 0):
            yield Finding(
                event=name,
                version=version,
                rule=Rule.CODE_LOST,
                problem=f"Version {version} of {name} is committed, and no class can read it.",
                remedy=f'Bring back a class …(Event, name="{name}", version={version}), or delete the files if no such '
                "event was ever stored: `manage.py check_event_schemas --against-database` tells.",
            )


def _of_upcasters(events: list[type[Event]]) -> Iterator[Finding]:
    """Each version before the class's own has exactly one step. A step leads to the version after its own, and none
    begins at the class's own or later, so a circle can't be written."""
    for event in events:
        for version in range(1, event.schema_version):
            if (event, version) not in upcasters():
                yield Finding(
                    event=event.stored_name,
                    version=version,
                    rule=Rule.UPCASTER_MISSING,
                    problem=f"Nothing brings {event.stored_name} from version {version} to {version + 1}.",
                    remedy=f"Write a function with @upcasts({event.__name__}, from_version={version}) in the "
                    "`upcasters` module of its context.",
                )
    for (event, version), functions in upcasters().items():
        names = ", ".join(name_of(function) for function in functions)
        if not (isinstance(event, type) and issubclass(event, Event)):
            yield Finding(
                event=repr(event),
                version=version,
                rule=Rule.UPCASTER_OF_NO_EVENT,
                problem=f"{names} upcasts {event!r}, which is no event.",
                remedy="Name the event class: @upcasts(Event, from_version=…).",
            )
        elif not 1 <= version < event.schema_version:
            yield Finding(
                event=event.stored_name,
                version=version,
                rule=Rule.UPCASTER_TOO_MUCH,
                problem=f"{names} upcasts {event.stored_name} from version {version}, and its class has version "
                f"{event.schema_version}.",
                remedy=f"If the step is new, count the class up: version={event.schema_version + 1} in its class line. "
                "If not, correct `from_version` or remove the function.",
            )
        elif len(functions) > 1:
            yield Finding(
                event=event.stored_name,
                version=version,
                rule=Rule.UPCASTER_TWICE,
                problem=f"{event.stored_name} has {len(functions)} upcasters from version {version}: {names}.",
                remedy="One version leads to the next in one way: merge them.",
            )
