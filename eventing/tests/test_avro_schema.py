"""Avro schemas say what an event's class says, and refuse what Avro has no word for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from io import BytesIO
from typing import Annotated, Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from eventing.avro_schema import Undescribable, datum_of, event_of, schema_of
from eventing.domain import Event, EventMeta, Value
from eventing.golden import golden_payload
from eventing.money import Money


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Speed(Enum):
    SLOW = "not fast"


class Card(Value, tag="card"):
    number: str


class Invoice(Value, tag="invoice"):
    days: int


class Parcel(Value):
    weight: float
    price: Money


class Packed(Value, array_like=True):
    weight: float


TypesOfFields = dict[str, Any]


def event_with(fields: TypesOfFields, **defaults: Any) -> type[Event]:
    """An event class that has these fields, and these defaults for some of them."""
    namespace = {"__annotations__": fields, "__module__": __name__, "__qualname__": "<locals>.Happened", **defaults}
    return cast(type[Event], EventMeta("Happened", (Event,), namespace, name="bank.happened"))


def fields_of(fields: TypesOfFields, **defaults: Any) -> list[Any]:
    schema = schema_of(event_with(fields, **defaults))
    parse_schema(schema)
    fields_found: list[Any] = schema["fields"]
    return fields_found


UUID_TEXT = {"type": "string", "logicalType": "uuid"}
MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "eventing",
    "fields": [{"name": "currency", "type": "string"}, {"name": "minor", "type": "long"}],
}


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        (str, "string"),
        (int, "long"),
        (bool, "boolean"),
        (float, "double"),
        (UUID, UUID_TEXT),
        (datetime, {"type": "long", "logicalType": "timestamp-micros"}),
        (date, {"type": "int", "logicalType": "date"}),
        (Decimal, {"type": "string", "format": "decimal"}),
        (Colour, {"type": "enum", "name": "Colour", "namespace": "eventing", "symbols": ["red", "green"]}),
        (tuple[int, ...], {"type": "array", "items": "long"}),
        (list[UUID], {"type": "array", "items": UUID_TEXT}),
        (frozenset[str], {"type": "array", "items": "string"}),
        (dict[str, bool], {"type": "map", "values": "boolean"}),
        (UUID | None, ["null", UUID_TEXT]),
        (Money, MONEY),
        (Annotated[str, "whatever"], "string"),
    ],
)
def test_each_type_of_field_has_its_counterpart(kind: Any, described: Any) -> None:
    assert fields_of({"it": kind}) == [{"name": "it", "type": described}]


def test_the_schema_has_the_events_stored_name_and_is_the_same_each_time() -> None:
    event = event_with({"it": Money})
    assert (schema_of(event)["namespace"], schema_of(event)["name"]) == ("bank", "happened")
    assert schema_of(event) == schema_of(event)


def test_a_named_type_is_described_once_and_named_after_that() -> None:
    first, second = fields_of({"parcel": Parcel, "total": Money})
    assert first["type"]["fields"][1] == {"name": "price", "type": MONEY}
    assert second == {"name": "total", "type": "eventing.Money"}


def test_structs_of_a_union_are_told_apart_by_their_tag() -> None:
    ((card, invoice),) = (each["type"] for each in fields_of({"by": Card | Invoice}))
    assert card["fields"][0]["type"]["symbols"] == ["card"]
    assert invoice["fields"][0]["type"]["symbols"] == ["invoice"]


def test_a_field_has_a_default_only_where_the_class_has_one() -> None:
    fields = fields_of(
        {"wanted": str | None, "note": str | None, "colour": Colour, "tags": tuple[str, ...], "days": int | None},
        note=None,
        colour=Colour.GREEN,
        tags=(),
        days=14,
    )
    assert "default" not in fields[0]
    assert [field["default"] for field in fields[1:]] == [None, "green", [], 14]
    assert [fields[1]["type"], fields[4]["type"]] == [["null", "string"], ["long", "null"]]


@pytest.mark.parametrize(
    ("fields", "defaults", "complaint"),
    [
        ({"it": bytes}, {}, r"it has a type \(Bytes\) that has no counterpart"),
        ({"it": timedelta}, {}, r"it has a type \(TimeDelta\)"),
        ({"it": tuple[int, str]}, {}, r"it has a type \(Tuple\)"),
        ({"it": dict[UUID, int]}, {}, r"it has a type \(Dict\)"),
        ({"it": list[Any]}, {}, r"it\[\] has a type \(Any\)"),
        ({"it": Speed}, {}, "it can be 'not fast', which is no name in Avro"),
        ({"it": Packed}, {}, "it is stored as an array"),
        ({"it": UUID}, {"it": msgspec.field(default_factory=uuid4)}, "it has a default that is computed"),
        ({"it": date}, {"it": date(2026, 1, 1)}, "it has a time as its default"),
    ],
)
def test_what_avro_has_no_word_for_is_refused_by_name(
    fields: TypesOfFields, defaults: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Undescribable, match=complaint) as refused:
        schema_of(event_with(fields, **defaults))
    assert refused.value.field.startswith("it")


def test_two_types_of_one_name_in_one_event_are_refused() -> None:
    other = type("Parcel", (Value,), {"__annotations__": {"height": int}, "__module__": __name__})
    with pytest.raises(Undescribable, match=r"has a type named eventing\.Parcel, and so has another"):
        schema_of(event_with({"one": Parcel, "two": other}))


@pytest.mark.parametrize("name", ["bank.money-paid", "bank.1st", "bank..paid"])
def test_a_stored_name_that_avro_cant_have_is_refused(name: str) -> None:
    event = EventMeta("Happened", (Event,), {"__module__": __name__, "__qualname__": "<locals>.Happened"}, name=name)
    with pytest.raises(Undescribable, match="is no name in Avro"):
        schema_of(cast(type[Event], event))


EVERYTHING: TypesOfFields = {
    "colour": Colour,
    "by": Card | Invoice | None,
    "parcels": tuple[Parcel, ...],
    "counts": dict[str, int],
    "tags": frozenset[str],
    "at": datetime,
    "day": date,
    "rate": Decimal,
    "maybe": tuple[int, ...] | None,
    "yes": bool,
    "total": Money,
}


def test_an_event_of_all_types_comes_back_from_avro_as_it_was() -> None:
    event = event_with(EVERYTHING)
    happened = event(
        colour=Colour.GREEN,
        by=Invoice(days=14),
        parcels=(Parcel(weight=0.5, price=Money(minor=1, currency="GBP")),),
        counts={"one": 1},
        tags=frozenset({"a", "b"}),
        at=datetime(2026, 3, 4, 5, 6, 7, 891234, tzinfo=UTC),
        day=date(2026, 3, 4),
        rate=Decimal("0.10"),
        maybe=(1, 2),
        yes=True,
        total=Money(minor=2, currency="GBP"),
    )
    file, schema = BytesIO(), parse_schema(schema_of(event))
    schemaless_writer(file, schema, datum_of(happened), disable_tuple_notation=True)
    file.seek(0)
    assert event_of(event, schemaless_reader(file, schema, None)) == happened


def test_a_golden_payload_has_a_value_in_each_field_that_isnt_the_default() -> None:
    event = event_with(EVERYTHING, yes=True, colour=Colour.RED, maybe=None, by=None)
    golden = golden_payload(event)
    assert golden == golden_payload(event)
    assert (golden["yes"], golden["colour"], golden["by"]) == (
        False,
        "green",
        {"type": "card", "number": "some number"},
    )
    assert all(golden[field] or field == "yes" for field in EVERYTHING)


def test_two_fields_of_one_type_have_different_golden_values() -> None:
    golden = golden_payload(event_with({"one": UUID, "two": UUID, "three": int, "four": int}))
    assert len(set(golden.values())) == 4


def test_a_type_that_no_example_can_be_made_up_for_is_refused() -> None:
    with pytest.raises(Undescribable, match="no example can be made up"):
        golden_payload(event_with({"code": Annotated[str, msgspec.Meta(pattern="^[0-9]{4}$")]}))
