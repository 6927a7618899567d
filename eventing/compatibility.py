"""Avro's rules for who can read what was written with another schema, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple, cast

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaIncompatibilityType
from avro.schema import Field, RecordSchema, parse

from eventing.avro_schema import Schema


class Incompatibility(NamedTuple):
    """A field by which a reader fails, Avro's name for the rule, and its message. A field within a field is named as
    ``lines.quantity``."""

    field: str
    rule: str
    message: str


class _OneField(NamedTuple):
    """A record of which only one field is asked about: the checker would mix up what it finds in several."""

    fields: list[Field]


def incompatibilities(*, reader: Schema, writer: Schema) -> Iterator[Incompatibility]:
    """Why a reader with one schema of a record can't read everything that a writer with the other may write."""
    written = cast(RecordSchema, parse(json.dumps(writer)))
    for field in cast(RecordSchema, parse(json.dumps(reader))).fields:
        checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
        one = cast(RecordSchema, _OneField([field]))
        result = checker.check_reader_writer_record_fields(one, written, [])
        message = "; ".join(sorted(result.messages))
        for rule in dict.fromkeys(result.incompatibilities):
            # Here the message is the name of the field, and nothing else.
            missing = rule is SchemaIncompatibilityType.reader_field_missing_default_value and message != field.name
            yield Incompatibility(f"{field.name}.{message}" if missing else field.name, rule.value, message)
