"""An order needs no snapshots; one that has its buyer's contact shows that nobody reads it there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from eventing import snapshots, store
from eventing.contact import Contact
from eventing.models import Snapshot
from eventing.records import Stream
from eventing.snapshots import Verdict
from orders.aggregates import Order
from tests.builders import ORDER, PLACED

pytestmark = pytest.mark.django_db


def test_the_contact_within_an_order_is_sealed_in_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "snapshot_every", 10)
    placed = replace(PLACED, contact=Contact(name="Ada Lovelace", email="ada@example.com"))
    store.append(Stream.of(Order, ORDER), [placed], expected=0)
    snapshots.take(Stream.of(Order, ORDER))

    assert "Ada" not in str(Snapshot.objects.get().state)
    loaded = store.load(Order, ORDER)
    assert loaded.placed == placed
    assert [each.verdict for each in snapshots.verify()] == [Verdict.RIGHT]
