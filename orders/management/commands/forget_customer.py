from __future__ import annotations

import getpass
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventing.domain import Rejected
from eventing.forgetting import Forgetting, UnknownPerson, forget, forgotten_since, traces_of


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was, or would be, forgotten. ``streams`` counts the streams that tell of the person, by category."""

    person: UUID
    forgotten_at: datetime | None
    already: bool
    streams: dict[str, int]
    letters_blanked: int
    not_rolled_back_any_more: list[str]
    replays_cancelled: list[str]


class Command(BaseCommand):
    help = (
        "Forget a customer, or a guest by the id of the order: destroy the key that all personal data of theirs are "
        "sealed with. THIS CAN'T BE UNDONE, by anybody. Orders, amounts and parcels stay; names and addresses are gone "
        "from events, read models, letters and sagas. Who asked, when and why is recorded for ever. "
        "Exit codes: 0 forgotten, now or before, 1 unknown person or failure, 2 usage, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=UUID, metavar="ID", help="the customer's id, or a guest's order id")
        parser.add_argument("--reason", required=True, help="why, for those who ask later; no personal data here")
        parser.add_argument("--by", default=getpass.getuser(), help="who asks for it; otherwise, who runs this")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be forgotten")
        parser.add_argument("--no-input", "--yes", action="store_true", help="don't ask on a terminal")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(
        self, *args: Any, id: UUID, reason: str, by: str, dry_run: bool, no_input: bool, json: bool, **options: Any
    ) -> None:
        if not reason.strip():
            raise CommandError("The reason is empty: say why this person is to be forgotten.", returncode=2)
        streams = traces_of(id)
        if not (dry_run or no_input) and sys.stdin.isatty():
            self._confirm(id, streams)
        try:
            done = None if dry_run else forget(id, reason=reason, by=by)
        except (UnknownPerson, Rejected) as error:
            raise CommandError(str(error)) from error
        if dry_run and not streams:
            raise CommandError(f"Nothing personal is known of {id}: no event tells of such a person.")
        report = _report(id, streams, done)
        self.stdout.write(msgspec.json.encode(report).decode() if json else _told(report))

    def _confirm(self, id: UUID, streams: dict[str, int]) -> None:
        self.stderr.write(f"{id}: {_counted(streams)}. This can't be undone.")
        if input("Type the id again to go on: ").strip() != str(id):
            raise CommandError("That isn't the id. Nothing was forgotten.")


def _report(id: UUID, streams: dict[str, int], done: Forgetting | None) -> Report:
    return Report(
        person=id,
        forgotten_at=done.since if done else forgotten_since(id),
        already=done.already if done else forgotten_since(id) is not None,
        streams=streams,
        letters_blanked=done.letters if done else 0,
        not_rolled_back_any_more=done.removed.kept if done else [],
        replays_cancelled=done.removed.cancelled if done else [],
    )


def _told(report: Report) -> str:
    if report.forgotten_at is None:
        return f"{report.person} would be forgotten: {_counted(report.streams)}."
    if report.already:
        return f"{report.person} was forgotten at {report.forgotten_at:%Y-%m-%d %H:%M:%S %Z} already."
    lines = [f"{report.person} is forgotten: {_counted(report.streams)}. The read models follow in a moment."]
    if report.letters_blanked:
        lines.append(f"The errors of {report.letters_blanked:,} letters were blanked.")
    if report.not_rolled_back_any_more:
        lines.append(f"Can't be rolled back any more: {', '.join(report.not_rolled_back_any_more)}.")
    if report.replays_cancelled:
        lines.append(f"Replays that were cancelled, to be begun again: {', '.join(report.replays_cancelled)}.")
    lines.append("What this doesn't reach: backups, logs, the carrier, the payment gateway, and whoever got a copy.")
    return "\n".join(lines)


def _counted(streams: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {category} streams" for category, count in streams.items()) or "no streams"
