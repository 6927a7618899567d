"""The events of all contexts: their schemas are committed, and other programs can read what they describe."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from django.core.management import call_command
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from eventing.asyncapi import Payloads, asyncapi
from eventing.avro_schema import datum_of, event_of, schema_of
from eventing.contracts import committed, published
from eventing.domain import Event
from eventing.evolution import findings
from eventing.management.commands.export_schemas import json_schema

OFFICIAL = Path(__file__).parent / "asyncapi" / "asyncapi-3.1.0.json"

each_event = pytest.mark.parametrize("event", published(), ids=lambda event: event.stored_name)


def any_value(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type can hold; numbers fit into 64 bits, as those of Avro do."""
    arguments = get_args(kind)
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if kind is datetime:
        return st.datetimes(timezones=st.just(UTC))
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([any_value(each) for each in arguments])
    if get_origin(kind) is tuple:
        return st.lists(any_value(arguments[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = get_type_hints(kind)
        return st.builds(kind, **{field: any_value(types[field]) for field in kind.__struct_fields__})
    return st.from_type(kind)


def test_every_event_is_as_it_was_committed() -> None:
    assert findings() == [], "manage.py check_event_schemas says what to do"


@each_event
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_an_event_comes_back_from_avro_as_it_was(event: type[Event], data: st.DataObject) -> None:
    written, schema = data.draw(any_value(event)), parse_schema(schema_of(event))
    file = BytesIO()
    schemaless_writer(file, schema, datum_of(written), disable_tuple_notation=True)
    file.seek(0)

    assert event_of(event, schemaless_reader(file, schema, None)) == written


@each_event
def test_a_golden_payload_is_what_the_schemas_describe_and_leaves_no_field_out(event: type[Event]) -> None:
    golden = next(iter(committed()[event.stored_name, event.schema_version].payloads.values()))
    described = json_schema()

    Draft202012Validator(
        {**described, "additionalProperties": False}, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate({event.stored_name: golden})
    assert json.loads(msgspec.json.encode(msgspec.convert(golden, event))) == golden
    assert set(golden) == set(event.__struct_encode_fields__)


@pytest.mark.parametrize("payloads", Payloads)
def test_the_asyncapi_document_is_one_by_the_official_schema(payloads: Payloads) -> None:
    official = Draft7Validator(json.loads(OFFICIAL.read_text()))
    document = json.loads(json.dumps(asyncapi(payloads)))

    official.validate(document)
    assert not official.is_valid({**document, "channels": {"order": {"nobody": "knows this"}}})


def test_the_asyncapi_document_has_a_channel_for_each_category_with_the_events_of_its_streams() -> None:
    document = asyncapi()

    assert {"order", "payment", "stock", "reservation", "shipment"} <= set(document["channels"])
    assert "orders.order_placed" in document["channels"]["order"]["messages"]
    assert set(document["components"]["messages"]) == {event.stored_name for event in published()}
    for reference in references(document):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def references(document: Any) -> list[str]:
    """Every reference in a document."""
    if isinstance(document, dict):
        own = [document["$ref"]] if "$ref" in document else []
        return own + [each for value in document.values() for each in references(value)]
    return [each for value in document for each in references(value)] if isinstance(document, list) else []


@pytest.mark.parametrize("format", ["avro", "jsonschema", "asyncapi"])
def test_schemas_are_exported_to_a_file_or_printed(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("export_schemas", "--format", format, "--output", str(tmp_path / "schemas.json"))
    assert capsys.readouterr().out == ""
    call_command("export_schemas", "--format", format)

    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "schemas.json").read_text())


def test_avro_schemas_are_exported_one_by_one_each_complete_in_itself(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("export_schemas", "--format", "avro")
    exported = json.loads(capsys.readouterr().out)

    assert len(exported) == len(published())
    for each in exported:
        parse_schema(each["schema"])
        assert f"{each['schema']['namespace']}.{each['schema']['name']}" == each["subject"]
