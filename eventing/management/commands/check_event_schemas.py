from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from eventing.avro_schema import Undescribable
from eventing.contracts import files_of, published
from eventing.evolution import AVRO_RULES, Finding, Mode, Rule, findings
from eventing.readability import Unreadable, unreadable


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and the files that were written, or would be. ``stored`` is null when the database wasn't
    asked."""

    mode: Mode
    events: int
    written: list[str]
    findings: list[Finding]
    stored: list[Unreadable] | None

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not self.stored


class Command(BaseCommand):
    help = (
        "Compare the event classes and upcasters with the committed schemas and payloads: could every event that was "
        "ever stored be read? Exit codes: 0 yes, 1 something is wrong, 2 usage."
    )
    requires_system_checks = ()  # they would find the same, and let nobody accept it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--mode",
            choices=[str(mode) for mode in Mode],
            default=str(Mode.BACKWARD),
            help="backward: today's code reads the events of before (the default); forward: who knows the committed "
            "schemas reads today's events; full: both",
        )
        parser.add_argument("--accept", action="store_true", help="write down what has changed compatibly, or is new")
        parser.add_argument("--dry-run", action="store_true", help="with --accept: only say what it would write")
        parser.add_argument("--against-database", action="store_true", help="also look for stored events nobody reads")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, mode: str, accept: bool, dry_run: bool, json: bool, **options: Any) -> None:
        if dry_run and not accept:
            raise CommandError("--dry-run says what --accept would write: give both.", returncode=2)
        found = _findings(Mode(mode))
        files = _accepted(found) if accept else {}
        if files and not dry_run:
            _write(files)
            found = _findings(Mode(mode))
        report = Report(
            mode=Mode(mode),
            events=len(published()),
            written=[os.path.relpath(file) for file in files],
            findings=found,
            stored=_unreadable() if options["against_database"] else None,
        )
        if json:
            self.stdout.write(msgspec.json.encode(report).decode())
        else:
            self.stdout.write("\n".join(_lines(report, dry_run=dry_run)))
        if not report.is_well:
            sys.exit(1)


def _findings(mode: Mode) -> list[Finding]:
    try:
        return findings(mode)
    except ValueError as error:
        raise CommandError(f"{error}. Restore it from version control.") from error


def _unreadable() -> list[Unreadable]:
    try:
        return unreadable()
    except DatabaseError as error:
        raise CommandError(f"The database can't be asked: {error}") from error


def _accepted(found: list[Finding]) -> dict[Path, str]:
    """The files to write for events that have changed compatibly. What is incompatible is never written down."""
    refused = {finding.event for finding in found if finding.rule in AVRO_RULES}
    wanted = {finding.event for finding in found if finding.rule in (Rule.NOT_COMMITTED, Rule.NOT_ACCEPTED)}
    files: dict[Path, str] = {}
    for event in published():
        if event.stored_name in wanted - refused:
            try:
                files |= files_of(event)
            except Undescribable as error:
                raise CommandError(f"{event.stored_name}: {error}.") from error
    return files


def _write(files: dict[Path, str]) -> None:
    for file, text in files.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def _lines(report: Report, *, dry_run: bool) -> Iterator[str]:
    for file in report.written:
        yield f"{'Would write' if dry_run else 'Wrote'} {file}"
    for finding in report.findings:
        field = f", {finding.field}" if finding.field else ""
        yield f"{finding.event} version {finding.version}{field} ({finding.rule})"
        yield f"    {finding.problem}"
        yield f"    {finding.remedy}"
    for each in report.stored or ():
        yield f"{each.type} version {each.schema_version}: {each.events:,} stored events, {each.example} among them"
        yield f"    {each.problem}"
    if report.is_well:
        stored = "" if report.stored is None else ", and so can all that is stored"
        yield f"{report.events} events: what is committed can be read ({report.mode}){stored}."
