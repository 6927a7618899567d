"""The numbers of schemas: one for each that an event was ever written with, for ever."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command

from eventing import registry
from eventing.avro_schema import schema_of
from eventing.contracts import published
from eventing.models import EventSchema
from eventing.registry import fingerprint_of, make_missing
from eventing.tests.bank.events import AccountOpened, MoneyPaidIn

pytestmark = pytest.mark.django_db


def registered() -> dict[int, tuple[str, int, str]]:
    return {each.pk: (each.subject, each.version, each.fingerprint) for each in EventSchema.objects.all()}


def test_migrating_registers_each_events_schema() -> None:
    EventSchema.objects.all().delete()
    call_command("migrate", verbosity=0)
    known = {(each.subject, each.version): each.schema for each in EventSchema.objects.all()}
    assert known == {(event.stored_name, event.schema_version): schema_of(event) for event in published()}
    assert ("bank.account_opened", 3) in known


def test_what_is_registered_keeps_its_number() -> None:
    make_missing()
    before = registered()
    make_missing()
    assert registered() == before


def test_a_schema_that_changes_within_a_version_gets_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    make_missing()
    before = registered()

    def changed(event: type[Any]) -> dict[str, Any]:
        schema = schema_of(event)
        return schema | {"fields": [*schema["fields"], {"name": "note", "type": "string", "default": ""}]}

    monkeypatch.setattr(registry, "published", lambda: [MoneyPaidIn])
    monkeypatch.setattr(registry, "schema_of", changed)
    make_missing()
    (added,) = registered().keys() - before.keys()
    assert before.items() <= registered().items()
    assert registered()[added][:2] == ("bank.money_paid_in", 1)
    assert added > max(before)


def test_the_fingerprint_is_avros_and_depends_on_what_data_are_read_by() -> None:
    # From the Avro specification's table of canonical forms: the SHA-256 of "int", with its quotes.
    assert fingerprint_of({"type": "int"}) == "3f2b87a9fe7cc9b13835598c3981cd45e3e355309e5090aa0933d7becb6fba45"
    schema = schema_of(AccountOpened)
    assert fingerprint_of(schema | {"doc": "An account."}) == fingerprint_of(schema)
    assert fingerprint_of(schema | {"fields": schema["fields"][:1]}) != fingerprint_of(schema)
