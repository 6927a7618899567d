"""A class that can't read what is stored is found by comparing it with what is committed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from io import StringIO
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from django.apps import AppConfig
from django.core.management import CommandError, call_command

from eventing import checks, contracts, evolution, upcasting
from eventing.domain import Event, EventMeta, Value
from eventing.evolution import Finding, Mode, Rule, findings
from eventing.management.commands import check_event_schemas
from eventing.subscriptions import Subscription
from eventing.tests.bank.commands import PayIn
from eventing.upcasting import Payload, upcasts

Declare = Callable[..., type[Event]]


class Tax(Value):
    rate: int


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class FewerColours(Enum):
    RED = "red"


FewerColours.__name__ = "Colour"


@pytest.fixture
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with all that is committed."""

    def here(app: AppConfig) -> Path:
        return tmp_path

    monkeypatch.setattr(contracts, "_schemas_of", here)
    monkeypatch.setattr(upcasting, "_upcasters", {})
    return tmp_path


@pytest.fixture
def declare(schemas: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Let the program have one event, with these fields and defaults: today's class."""

    def declare(fields: dict[str, Any], *, version: int = 1, **defaults: Any) -> type[Event]:
        namespace = {"__annotations__": fields, "__module__": __name__, "__qualname__": "<locals>.RateSet", **defaults}
        event = cast(type[Event], EventMeta("RateSet", (Event,), namespace, name="bank.rate_set", version=version))
        for module in (evolution, check_event_schemas):
            monkeypatch.setattr(module, "published", lambda: [event])
        return event

    return declare


def found(mode: Mode = Mode.BACKWARD) -> list[tuple[str, Rule]]:
    return [(finding.field, finding.rule) for finding in findings(mode)]


def check(*arguments: str) -> tuple[int, str]:
    """The command's exit code, and what it says."""
    output = StringIO()
    try:
        call_command("check_event_schemas", *arguments, stdout=output)
    except SystemExit as ended:
        return int(ended.code or 0), output.getvalue()
    return 0, output.getvalue()


def accept() -> None:
    code, said = check("--accept")
    assert code == 0, said


def ids() -> list[str]:
    """The ids of the system check's messages. Each has a hint about what to do."""
    messages = list(checks.schemas())
    assert all(message.hint for message in messages)
    return [str(message.id).removeprefix("eventing.") for message in messages]


def test_a_new_event_is_written_down_when_it_is_accepted(declare: Declare, schemas: Path) -> None:
    declare({"account_id": UUID, "rate": int})
    assert found() == [("", Rule.NOT_COMMITTED)]
    assert ids() == ["W002"]

    accept()
    assert sorted(file.name for file in schemas.iterdir()) == ["rate_set.v1.avsc", "rate_set.v1.json"]
    assert set(json.loads((schemas / "rate_set.v1.json").read_text())) == {"account_id", "rate"}
    assert found() == []
    assert ids() == []


def test_a_dry_run_says_what_it_would_write(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    code, said = check("--accept", "--dry-run")
    assert code == 1
    assert "Would write" in said
    assert "rate_set.v1.avsc" in said
    assert list(schemas.iterdir()) == []


def test_a_dry_run_of_nothing_is_wrong_usage() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("check_event_schemas", "--dry-run")
    assert refused.value.returncode == 2


def test_a_field_with_a_default_is_compatible_and_has_to_be_accepted(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    accept()
    declare({"rate": int, "note": str}, note="")
    assert found() == [("", Rule.NOT_ACCEPTED)]
    assert ids() == ["W003"]

    accept()
    assert found(Mode.FULL) == []
    assert json.loads((schemas / "rate_set.v1.earlier-1.json").read_text()).keys() == {"rate"}


def test_a_field_without_a_default_is_refused_with_a_remedy(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    accept()
    before = (schemas / "rate_set.v1.avsc").read_text()
    declare({"rate": int, "note": str})
    (finding,) = findings()
    assert (finding.event, finding.version, finding.field) == ("bank.rate_set", 1, "note")
    assert finding.rule is Rule.READER_FIELD_MISSING_DEFAULT_VALUE
    assert finding.remedy == (
        "Give it a default, or make it version 2, with a function @upcasts(RateSet, from_version=1) in its context's "
        "`upcasters`."
    )
    assert ids() == ["E018"]

    code, said = check("--accept")
    assert code == 1
    assert "bank.rate_set version 1, note (reader_field_missing_default_value)" in said
    assert (schemas / "rate_set.v1.avsc").read_text() == before


@pytest.mark.parametrize(
    ("before", "after", "field", "rule"),
    [
        ({"rate": int}, {"rate": str}, "rate", Rule.TYPE_MISMATCH),
        ({"rate": float}, {"rate": int}, "rate", Rule.TYPE_MISMATCH),
        ({"rate": int | None}, {"rate": int}, "rate", Rule.TYPE_MISMATCH),
        ({"rate": int | str}, {"rate": int | None}, "rate", Rule.MISSING_UNION_BRANCH),
        ({"colour": Colour}, {"colour": FewerColours}, "colour", Rule.MISSING_ENUM_SYMBOLS),
        ({"rate": int}, {"percent": int}, "percent", Rule.READER_FIELD_MISSING_DEFAULT_VALUE),
        ({"tax": Colour}, {"tax": Tax}, "tax", Rule.TYPE_MISMATCH),
    ],
)
def test_a_change_that_stored_events_dont_survive_is_refused(
    before: dict[str, Any], after: dict[str, Any], field: str, rule: Rule, declare: Declare
) -> None:
    declare(before)
    accept()
    declare(after)
    assert found() == [(field, rule)]


def test_a_field_deep_within_is_named_with_its_way(declare: Declare) -> None:
    declare({"taxes": tuple[Tax, ...]})
    accept()
    wider = type("Tax", (Value,), {"__annotations__": {"rate": int, "since": int}, "__module__": __name__})
    declare({"taxes": tuple[wider, ...]})  # type: ignore[valid-type]
    assert found() == [("taxes.since", Rule.READER_FIELD_MISSING_DEFAULT_VALUE)]


def test_two_broken_fields_are_two_findings_each_with_its_rule(declare: Declare) -> None:
    declare({"rate": int, "note": str})
    accept()
    declare({"rate": str, "note": str, "since": int})
    assert found() == [("rate", Rule.TYPE_MISMATCH), ("since", Rule.READER_FIELD_MISSING_DEFAULT_VALUE)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"rate": int, "note": str}, {"rate": int}),
        ({"rate": int}, {"rate": float}),
        ({"rate": int}, {"rate": int | None}),
        ({"colour": FewerColours}, {"colour": Colour}),
    ],
)
def test_what_we_can_read_others_may_not_be_able_to(
    before: dict[str, Any], after: dict[str, Any], declare: Declare
) -> None:
    declare(before)
    accept()
    declare(after)
    assert found(Mode.BACKWARD) == [("", Rule.NOT_ACCEPTED)]
    ((field, rule),) = found(Mode.FORWARD)
    assert field in before
    assert rule in evolution.AVRO_RULES
    assert found(Mode.FULL) == found(Mode.FORWARD)
    assert check("--mode", "forward", "--accept")[0] == 1
    assert found() == [("", Rule.NOT_ACCEPTED)]


def test_text_that_becomes_something_narrower_is_found_by_the_golden_payload(declare: Declare) -> None:
    declare({"account": str})
    accept()
    declare({"account": UUID})
    (_, unreadable) = findings()
    assert unreadable.rule is Rule.UNREADABLE
    assert "rate_set.v1.json can't be read" in unreadable.problem
    assert "Invalid UUID" in unreadable.problem


def test_a_default_cant_be_taken_back_while_events_without_the_field_are_stored(declare: Declare) -> None:
    for fields, defaults in (({"rate": int}, {}), ({"rate": int, "note": str}, {"note": ""})):
        declare(fields, **defaults)
        accept()
    declare({"rate": int, "note": str})
    assert (("", Rule.UNREADABLE)) in found()


def test_a_field_that_is_gone_cant_come_back_as_something_else(declare: Declare) -> None:
    for fields in ({"rate": int, "note": str}, {"rate": int}):
        declare(fields)
        accept()
    declare({"rate": int, "note": int}, note=0)
    assert found() == [("", Rule.NOT_ACCEPTED), ("", Rule.UNREADABLE)]
    assert "E020" in ids()


def test_a_new_version_with_an_upcaster_is_fine(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    accept()
    event = declare({"percent": int}, version=2)

    @upcasts(event, from_version=1)
    def rename(payload: Payload) -> Payload:
        return {"percent": payload["rate"]}

    accept()
    assert found() == []
    assert {file.name for file in schemas.glob("*.avsc")} == {"rate_set.v1.avsc", "rate_set.v2.avsc"}
    assert found(Mode.FULL) == []


def test_who_knows_the_version_before_is_asked_about_a_new_one_too(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    accept()
    event = declare({"percent": int}, version=2)
    upcasts(event, from_version=1)(lambda payload: {"percent": payload["rate"]})
    assert found(Mode.FORWARD) == [("rate", Rule.READER_FIELD_MISSING_DEFAULT_VALUE), ("", Rule.NOT_COMMITTED)]
    assert check("--mode", "forward", "--accept")[0] == 1
    assert [file.name for file in schemas.glob("*.avsc")] == ["rate_set.v1.avsc"]


def test_an_upcaster_that_doesnt_lead_to_what_the_class_reads_is_found(declare: Declare) -> None:
    declare({"rate": int})
    accept()
    event = declare({"percent": int}, version=2)

    @upcasts(event, from_version=1)
    def fail(payload: Payload) -> Payload:
        return {"percent": payload["prozent"]}

    assert found() == [("", Rule.NOT_COMMITTED), ("", Rule.UNREADABLE)]
    assert findings()[1].version == 1
    assert "KeyError('prozent')" in findings()[1].problem


def test_a_version_that_nothing_brings_to_the_next_is_a_gap(declare: Declare) -> None:
    declare({"rate": int})
    accept()
    event = declare({"rate": int}, version=3)
    upcasts(event, from_version=2)(dict)
    rules = [(finding.version, finding.rule) for finding in findings()]
    assert rules == [(3, Rule.NOT_COMMITTED), (2, Rule.CONTRACT_LOST), (1, Rule.UPCASTER_MISSING)]
    assert ids() == ["W002", "E020", "E021"]


def test_two_upcasters_for_one_step_are_one_too_many(declare: Declare) -> None:
    declare({"rate": int})
    accept()
    event = declare({"rate": int}, version=2)
    accept_step = upcasts(event, from_version=1)
    accept_step(dict)
    accept()
    accept_step(dict)
    assert found() == [("", Rule.UPCASTER_TWICE)]
    assert ids() == ["E021"]


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_upcaster_from_no_older_version_is_refused(version: int, declare: Declare) -> None:
    declare({"rate": int})
    accept()
    event = declare({"rate": int}, version=2)
    upcasts(event, from_version=1)(dict)
    accept()
    upcasts(event, from_version=version)(dict)
    assert found() == [("", Rule.UPCASTER_TOO_MUCH)]
    assert ids() == ["E021"]


def test_an_upcaster_of_something_that_is_no_event_is_refused(schemas: Path) -> None:
    upcasts(PayIn, from_version=1)(dict)  # type: ignore[arg-type]
    assert [finding.rule for finding in evolution._of_upcasters([])] == [Rule.UPCASTER_OF_NO_EVENT]
    assert "E022" in ids()


def test_a_committed_event_whose_class_is_gone_is_found(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    declare({"rate": int})
    accept()
    monkeypatch.setattr(evolution, "published", list)
    (finding,) = findings()
    assert (finding.event, finding.version, finding.rule) == ("bank.rate_set", 1, Rule.CODE_LOST)
    assert ids() == ["E019"]


def test_a_class_that_is_older_than_what_is_committed_is_found(declare: Declare) -> None:
    event = declare({"rate": int}, version=2)
    upcasts(event, from_version=1)(dict)
    check("--accept")
    upcasting._upcasters.clear()
    declare({"rate": int})
    accepted = [rule for _, rule in found()]
    assert accepted == [Rule.NOT_COMMITTED, Rule.CODE_LOST]


def test_an_event_that_avro_has_no_word_for_is_found(declare: Declare) -> None:
    declare({"rate": bytes})
    assert found() == [("rate", Rule.UNDESCRIBABLE)]
    assert ids() == ["E017"]


def test_what_a_subscription_orders_by_has_to_be_in_the_payloads_of_all_versions(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ByRate(Subscription):
        kind = "projection"
        starts_at_head = False

        def handle(self, records: object, partition: int) -> int:
            raise NotImplementedError

    declare({"rate": int})
    accept()
    event = declare({"percent": int}, version=2)
    upcasts(event, from_version=1)(lambda payload: {"percent": payload["rate"]})
    accept()
    monkeypatch.setattr(evolution, "subscriptions", lambda: [ByRate(name="bank.ByRate", events=[event], key="percent")])
    (finding,) = findings()
    assert (finding.version, finding.field, finding.rule) == (1, "percent", Rule.UNORDERED)


def test_findings_are_one_json_document(declare: Declare) -> None:
    declare({"rate": int})
    code, said = check("--json")
    report = json.loads(said)
    assert code == 1
    assert (report["mode"], report["events"], report["written"], report["stored"]) == ("backward", 1, [], None)
    assert [Finding(**each).rule for each in report["findings"]] == ["not_committed"]


def test_a_committed_file_that_isnt_json_is_named(declare: Declare, schemas: Path) -> None:
    declare({"rate": int})
    accept()
    (schemas / "rate_set.v1.json").write_text("<<<<<<<")
    with pytest.raises(CommandError, match=r"rate_set\.v1\.json isn't JSON.*Restore it"):
        check()
    assert ids() == ["E020"]


def test_what_has_to_be_said_is_nothing_when_all_is_well(declare: Declare) -> None:
    declare({"rate": int})
    accept()
    assert check() == (0, "1 events: what is committed can be read (backward).\n")


def test_checking_is_quick_while_nothing_differs() -> None:
    """Every `manage.py` command begins with it, so what is slow to import stays out."""
    program = """
import django, sys
django.setup()
from eventing import checks
assert list(checks.schemas()) == []
print(*{"avro", "fastavro"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
