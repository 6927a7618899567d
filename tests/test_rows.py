from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, models
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from eventing import rows
from inventory.models import StockLevel
from orders.models import OrderLine, OrderSummary

pytestmark = pytest.mark.django_db

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
times = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - bounds without a zone are what the strategy wants
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))]),
)
numbers = st.integers(-(2**63), 2**63 - 1)

orders: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    order_id=st.uuids(),
    reference=texts,
    customer_id=st.none() | st.uuids(),
    status=st.sampled_from(["placed", "confirmed"]),
    currency=st.sampled_from(["GBP", "JPY"]),
    total_minor=numbers,
    line_count=st.integers(0, 2**31 - 1),
    units=numbers,
    payment_method=texts,
    placed_at=times,
    confirmed_at=st.none() | times,
    placed_recorded_at=times,
    cancellation_reason=texts,
    version=st.integers(1, 2**31 - 1),
    updated_at=times,
)


class WrittenRows(TestCase):
    """Rows that travel as JSON arrive as those do that go Django's way."""

    @given(orders, orders)
    @settings(max_examples=60, deadline=None)
    def test_whatever_is_in_them(self, first: dict[str, Any], then: dict[str, Any]) -> None:
        then = {**then, "order_id": first["order_id"]}
        twin = {**then, "order_id": uuid4()}
        rows.save(OrderSummary, [OrderSummary(**first)])
        rows.save(OrderSummary, [OrderSummary(**then)])
        OrderSummary.objects.bulk_create([OrderSummary(**twin)])
        written, expected = (OrderSummary.objects.filter(pk=each["order_id"]).values().get() for each in (then, twin))
        assert {**written, "order_id": None} == {**expected, "order_id": None}


def test_rows_of_a_compound_key_are_inserted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 2)
    order = uuid4()
    lines = [
        OrderLine(
            order_id=order, number=number, sku="A", description="", quantity=1, currency="GBP", unit_price_minor=5
        )
        for number in range(1, 6)
    ]
    rows.insert(OrderLine, lines)
    assert list(OrderLine.objects.filter(order_id=order).values_list("number", flat=True)) == [1, 2, 3, 4, 5]


class Measurement(models.Model):
    """Has columns that JSON doesn't carry as they are."""

    id = models.IntegerField(primary_key=True)
    value = models.FloatField()
    raw = models.BinaryField()
    unit = models.TextField(db_default="m")

    class Meta:
        app_label = "bank"
        managed = False

    def __str__(self) -> str:
        return f"{self.value} {self.unit}"


@pytest.fixture
def measurements() -> Iterator[None]:
    with connection.schema_editor() as editor:
        editor.create_model(Measurement)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Measurement)


@pytest.mark.usefixtures("measurements")
def test_columns_that_json_doesnt_carry_arrive_all_the_same() -> None:
    rows.save(Measurement, [Measurement(id=1, value=1.5, raw=b"\x00\xff")])
    rows.save(Measurement, [Measurement(id=1, value=float("inf"), raw=b"\x01")])
    rows.insert(Measurement, [Measurement(id=2, value=2.5, raw=b"")])
    assert [(each.value, bytes(each.raw), each.unit) for each in Measurement._default_manager.order_by("id")] == [
        (float("inf"), b"\x01", "m"),
        (2.5, b"", "m"),
    ]


@pytest.mark.parametrize("model", [OrderSummary, StockLevel], ids=lambda model: model.__name__)
def test_a_new_row_is_as_django_makes_it(model: type[models.Model]) -> None:
    key = uuid4()
    made, expected = rows.new(model, key), model(pk=key)
    generated = [field.attname for field in model._meta.concrete_fields if field.generated]
    fields = [field.attname for field in model._meta.concrete_fields if not field.generated]
    assert [getattr(made, name) for name in fields] == [getattr(expected, name) for name in fields]
    assert not any(name in vars(made) for name in generated)
    assert made._state.adding


def test_a_default_that_is_computed_is_computed_for_each_row() -> None:
    class Ticket(models.Model):
        number = models.IntegerField(primary_key=True)
        secret = models.UUIDField(default=uuid4)

        class Meta:
            app_label = "bank"
            managed = False

        def __str__(self) -> str:
            return str(self.number)

    assert rows.new(Ticket, 1).secret != rows.new(Ticket, 2).secret
