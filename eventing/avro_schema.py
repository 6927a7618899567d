"""Avro schemas of events, read off their classes, and events as Avro libraries have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import inspect

from eventing.domain import E, Event
from eventing.personal import fields_of as personal_fields

Schema = dict[str, Any]
"""An Avro schema as JSON has it."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
EMPTY = (list, dict, set, frozenset, tuple)


class Undescribable(TypeError):
    """No Avro schema can describe an event: ``field`` is the one whose type or default is the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}" if field else reason)
        self.field = field


def schema_of(event: type[Event]) -> Schema:
    """The Avro schema of an event: a record with the event's stored name, the same each time for the same class.

    A field has a default where the class has one, for only then can it be left out. Raises Undescribable.
    """
    return _Description().record(event.stored_name, cast(inspect.StructType, inspect.type_info(event)), "")


def datum_of(event: Event) -> dict[str, Any]:
    """An event as Avro libraries take it."""
    datum: dict[str, Any] = msgspec.to_builtins(event, builtin_types=(datetime, date, UUID))
    return datum


def event_of(event: type[E], datum: Any) -> E:
    """The event that an Avro library has read. Raises msgspec.ValidationError."""
    return msgspec.convert(datum, event)


class _Description:
    """One schema in the making. ``path`` is where in the event we are: ``lines[].unit_price``."""

    def __init__(self) -> None:
        self.named: dict[str, type] = {}

    def record(self, full_name: str, struct: inspect.StructType, path: str) -> Schema:
        if struct.array_like:
            raise Undescribable(path, "is stored as an array of its fields")
        tag = [self.tag(full_name, struct, path)] if struct.tag_field else []
        personal = personal_fields(struct.cls)
        fields = [
            self.field(field, f"{path}.{field.encode_name}".removeprefix("."))
            | ({"personal": list(personal[field.name].named_by)} if field.name in personal else {})
            for field in struct.fields
        ]
        return {"type": "record", **_name(full_name, path), "fields": [*tag, *fields]}

    def tag(self, full_name: str, struct: inspect.StructType, path: str) -> Schema:
        """What tells the structs of a union apart: an enumeration with one value."""
        return {"name": struct.tag_field, "type": _enumeration(f"{full_name}_tag", [struct.tag], path)}

    def field(self, field: inspect.Field, path: str) -> Schema:
        described = self.type_of(field.type, path)
        if field.required:
            return {"name": field.encode_name, "type": described}
        default = _default(field, path)
        if isinstance(described, list) and default is not None:  # Avro takes it for a default of the first type
            described = [*(each for each in described if each != "null"), "null"]
        return {"name": field.encode_name, "type": described, "default": default}

    def type_of(self, described: inspect.Type, path: str) -> Any:
        match described:
            case inspect.Metadata(type=inner):
                return self.type_of(inner, path)
            case inspect.NoneType():
                return "null"
            case inspect.BoolType():
                return "boolean"
            case inspect.IntType():
                return "long"
            case inspect.FloatType():
                return "double"
            case inspect.StrType():
                return "string"
            case inspect.DecimalType():  # as text: Avro's own has a fixed number of digits
                return {"type": "string", "format": "decimal"}
            case inspect.UUIDType():
                return {"type": "string", "logicalType": "uuid"}
            case inspect.DateTimeType():
                return {"type": "long", "logicalType": "timestamp-micros"}
            case inspect.DateType():
                return {"type": "int", "logicalType": "date"}
            case inspect.CollectionType(item_type=item):
                return {"type": "array", "items": self.type_of(item, f"{path}[]")}
            case inspect.DictType(key_type=inspect.StrType(), value_type=value):
                return {"type": "map", "values": self.type_of(value, f"{path}[]")}
            case inspect.UnionType(types=types):
                return sorted((self.type_of(each, path) for each in types), key=lambda each: bool(each != "null"))
            case inspect.EnumType(cls=enum):
                symbols = [each.value for each in enum]
                return self.once(enum, lambda name: _enumeration(name, symbols, path), path)
            case inspect.StructType(cls=struct):
                return self.once(struct, lambda name: self.record(name, described, path), path)
            case _:
                kind = type(described).__name__.removesuffix("Type")
                raise Undescribable(path, f"has a type ({kind}) that has no counterpart in Avro")

    def once(self, described: type, describe: Callable[[str], Schema], path: str) -> Schema | str:
        """Avro wants a named type described where it comes first, and named after that."""
        name = f"{described.__module__.partition('.')[0]}.{described.__name__}"
        if name not in self.named:
            self.named[name] = described
            return describe(name)
        if self.named[name] is not described:
            raise Undescribable(path, f"has a type named {name}, and so has another")
        return name


def _name(full_name: str, path: str) -> Schema:
    namespace, _, name = full_name.rpartition(".")
    if not all(NAME.fullmatch(part) for part in full_name.split(".")):
        raise Undescribable(path, f"{full_name!r} is no name in Avro: it may have letters, digits and _ between dots")
    return {"name": name, "namespace": namespace} if namespace else {"name": name}


def _enumeration(full_name: str, symbols: Sequence[Any], path: str) -> Schema:
    for symbol in symbols:
        if not (isinstance(symbol, str) and NAME.fullmatch(symbol)):
            raise Undescribable(path, f"can be {symbol!r}, which is no name in Avro")
    return {"type": "enum", **_name(full_name, path), "symbols": list(symbols)}


def _default(field: inspect.Field, path: str) -> Any:
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        if field.default_factory not in EMPTY:
            raise Undescribable(path, "has a default that is computed: an old event would be another each time")
        value = field.default_factory()
    if isinstance(value, date):
        raise Undescribable(path, "has a time as its default")
    return msgspec.json.decode(msgspec.json.encode(value))
