"""What each version of an event is promised to look like: its Avro schema and golden payloads, in files of its app.

``orders/schemas/order_placed.v1.avsc`` and, beside it, ``order_placed.v1.json``. When the fields of a version change,
as they compatibly may, the payload from before is kept as ``order_placed.v1.earlier-1.json``: such events are stored.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, cast

from django.apps import AppConfig, apps

from eventing.avro_schema import Schema, schema_of
from eventing.domain import Event
from eventing.golden import golden_payload
from eventing.records import event_classes
from eventing.upcasting import Payload


class Contract(NamedTuple):
    """One version of an event as it's committed. Payloads by the name of their file, the golden one first."""

    subject: str
    version: int
    schema: Schema
    payloads: dict[str, Payload]


def committed() -> dict[tuple[str, int], Contract]:
    """Every contract of the installed apps, by the event's stored name and version. Raises ValueError for a file that
    isn't JSON."""
    directories = (_schemas_of(app) for app in apps.get_app_configs())
    found = (_contract(file) for directory in directories for file in sorted(directory.glob("*.v*.avsc")))
    return {(contract.subject, contract.version): contract for contract in found}


def published() -> list[type[Event]]:
    """The event classes that want a contract, by stored name: all of apps but those that only a function knows."""
    found = [
        event
        for event in event_classes()
        if event.stored_name
        and "<locals>" not in event.__qualname__
        and apps.get_containing_app_config(event.__module__)
    ]
    return sorted(found, key=lambda event: event.stored_name)


def files_of(event: type[Event]) -> dict[Path, str]:
    """The files that make a contract of an event class, as far as they have to be written. Raises Undescribable."""
    stem = _directory(event) / f"{event.stored_name.rpartition('.')[2]}.v{event.schema_version}"
    golden = Path(f"{stem}.json")
    files = {Path(f"{stem}.avsc"): _text(schema_of(event)), golden: _text(golden_payload(event))}
    if golden.exists() and golden.read_text() != files[golden]:
        earlier = (Path(f"{stem}.earlier-{number}.json") for number in count(1))
        files[next(file for file in earlier if not file.exists())] = golden.read_text()
    return {file: text for file, text in files.items() if not (file.exists() and file.read_text() == text)}


def _directory(event: type[Event]) -> Path:
    app = cast(AppConfig, apps.get_containing_app_config(event.__module__))
    return _schemas_of(app)


def _schemas_of(app: AppConfig) -> Path:
    return Path(app.path) / "schemas"


def _contract(file: Path) -> Contract:
    schema = _json(file)
    golden = file.with_suffix(".json")
    payloads = [golden, *sorted(file.parent.glob(f"{file.stem}.earlier-*.json"))] if golden.exists() else []
    return Contract(
        subject=".".join(filter(None, (schema.get("namespace"), schema["name"]))),
        version=int(file.stem.rpartition(".v")[2]),
        schema=schema,
        payloads={each.name: _json(each) for each in payloads},
    )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} isn't JSON: {error}") from error


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
