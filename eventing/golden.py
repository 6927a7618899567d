"""Golden payloads: an example of each event in which no field is empty or has its default."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zlib import crc32

import msgspec
from msgspec import inspect

from eventing.avro_schema import Undescribable
from eventing.domain import Event, Value
from eventing.money import Money
from eventing.upcasting import Payload

KNOWN: Mapping[type, Value] = {Money: Money(minor=1250, currency="GBP")}
"""Values of which not every combination of fields makes sense."""

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def golden_payload(event: type[Event]) -> Payload:
    """An example of an event as it stands in the log, with personal fields open; the same each time. Raises
    Undescribable, also for a type that an example can't be made up for."""
    payload: Payload = _value(inspect.type_info(event), event.stored_name)
    try:
        msgspec.convert(payload, event)
    except msgspec.ValidationError as error:
        raise Undescribable("", f"no example can be made up: {error}") from error
    return payload


def _value(described: inspect.Type, path: str, *, other_than: Any = None) -> Any:
    """A value that differs from place to place, so that one that is taken for another is noticed."""
    number = crc32(path.encode()) % 900 + 100
    match described:
        case inspect.Metadata(type=inner):
            return _value(inner, path, other_than=other_than)
        case inspect.BoolType():
            return other_than is not True
        case inspect.IntType():
            return number
        case inspect.FloatType():
            return number + 0.5
        case inspect.StrType():
            return f"some {path.rpartition('.')[2].removesuffix('[]').replace('_', ' ')}"
        case inspect.DecimalType():
            return f"{number}.25"
        case inspect.UUIDType():
            return str(uuid5(NAMESPACE_URL, path))
        case inspect.DateTimeType():
            return (BEGINNING + timedelta(hours=number, microseconds=number)).isoformat()
        case inspect.DateType():
            return (BEGINNING + timedelta(days=number)).date().isoformat()
        case inspect.EnumType(cls=enum):
            return _member(enum, other_than)
        case inspect.CollectionType(item_type=item):
            return [_value(item, f"{path}[]")]
        case inspect.DictType(value_type=value):
            return {"some key": _value(value, f"{path}[]")}
        case inspect.UnionType(types=types):
            return _value(next(each for each in types if not isinstance(each, inspect.NoneType)), path)
        case inspect.StructType(cls=struct) if struct in KNOWN:
            return msgspec.to_builtins(KNOWN[struct])
        case inspect.StructType():
            tag = {described.tag_field: described.tag} if described.tag_field else {}
            return tag | {
                each.encode_name: _value(each.type, f"{path}.{each.encode_name}", other_than=each.default)
                for each in described.fields
            }
        case _:
            raise Undescribable(path, "has a type that no example can be made up for")


def _member(enum: type[Enum], other_than: Any) -> Any:
    return next((each.value for each in enum if each is not other_than), other_than)
