"""The registry of schemas: a number for each schema that events were ever written with, for messages to carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connection

from eventing.avro_schema import Schema, schema_of
from eventing.contracts import published
from eventing.models import EventSchema


def make_missing(**_: Any) -> None:
    """Register the schema of each event class, if it isn't. One that has changed gets a number of its own, and what
    is registered stays as it is. Runs after each `migrate`."""
    if EventSchema._meta.db_table not in connection.introspection.table_names():
        return  # migrated back to where there's none
    known = set(EventSchema.objects.values_list("subject", "version", "fingerprint"))
    EventSchema.objects.bulk_create(
        [each for each in _schemas() if (each.subject, each.version, each.fingerprint) not in known],
        ignore_conflicts=True,  # another `migrate` may be at it
    )


def _schemas() -> Iterator[EventSchema]:
    for event in published():
        schema = schema_of(event)
        yield EventSchema(
            subject=event.stored_name,
            version=event.schema_version,
            fingerprint=fingerprint_of(schema),
            schema=schema,
        )


def fingerprint_of(schema: Schema) -> str:
    """SHA-256 of a schema's parsing canonical form, in hexadecimal digits: the same for schemas that differ in nothing
    that data are read by."""
    from fastavro.schema import fingerprint, to_parsing_canonical_form  # slow to import, and only needed here

    return fingerprint(to_parsing_canonical_form(schema), "SHA-256")
