from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventing.asyncapi import Payloads, asyncapi
from eventing.avro_schema import Undescribable, schema_of
from eventing.contracts import published


class Command(BaseCommand):
    help = (
        "Write the schemas of all events as one JSON document: Avro schemas in a list, a JSON Schema with a property "
        "for each event, or an AsyncAPI 3.1 document. Exit codes: 0 written, 1 failure, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=["avro", "jsonschema", "asyncapi"], required=True)
        parser.add_argument(
            "--payloads",
            choices=[str(each) for each in Payloads],
            default=str(Payloads.JSONSCHEMA),
            help="in what the AsyncAPI document describes payloads",
        )
        parser.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")

    def handle(self, *args: Any, format: str, payloads: str, output: Path | None, **options: Any) -> None:
        try:
            match format:
                case "avro":
                    document: Any = avro()
                case "jsonschema":
                    document = json_schema()
                case _:
                    document = asyncapi(Payloads(payloads))
        except Undescribable as error:
            raise CommandError(f"{error}: see `manage.py check_event_schemas`.") from error
        text = json.dumps(document, indent=2, ensure_ascii=False)
        if output is None:
            self.stdout.write(text)
        else:
            try:
                output.write_text(f"{text}\n")
            except OSError as error:
                raise CommandError(f"{output} can't be written: {error.strerror}.") from error
            self.stderr.write(f"Wrote {output}.")


def avro() -> list[dict[str, Any]]:
    """The Avro schema of each event, with the subject and version that the registry has it by."""
    return [
        {"subject": event.stored_name, "version": event.schema_version, "schema": schema_of(event)}
        for event in published()
    ]


def json_schema() -> dict[str, Any]:
    """One JSON Schema: an object with a property for each event."""
    events = published()
    references, components = msgspec.json.schema_components(events, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {event.stored_name: each for event, each in zip(events, references, strict=True)},
        "$defs": components,
    }
