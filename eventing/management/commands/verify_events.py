from __future__ import annotations

import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eventing import checkpoints
from eventing.management.interruption import interruption
from eventing.models import Snapshot
from eventing.verification import SHOWN, Findings, Link, Verification


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, and what is wrong. ``position`` and ``link`` are the end of what was verified; ``snapshots``
    counts what came of them, and is null when nobody asked."""

    start: int
    position: int
    link: str | None
    interrupted: bool
    unchained: int
    findings: list[Findings]
    snapshots: dict[str, int] | None

    @classmethod
    def of(cls, verification: Verification, *, interrupted: bool, snapshots: bool) -> Report:
        """What came of a verification."""
        end = verification.end()
        return cls(
            start=verification.start,
            position=end.position,
            link=end.link.hex() if end.link else None,
            interrupted=interrupted,
            unchained=verification.unchained,
            findings=[each for each in verification.findings() if each.count],
            snapshots={str(verdict.value): count for verdict, count in verification.snapshots.items()}
            if snapshots
            else None,
        )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for each in self.findings:
            yield f"NO   {each.question}: {each.count:,}"
            yield from (f"       {finding}" for finding in each.first)
            if each.count > len(each.first):
                yield f"       and {each.count - len(each.first):,} more"
            yield f"     {each.remedy}"
        walked = f"{max(self.position - self.start + 1, 0):,} positions verified, up to {self.position:,}"
        yield f"{walked}; {self.unchained:,} of them aren't chained." if self.unchained else f"{walked}."
        if self.snapshots is not None:
            counts = [f"{count:,} {verdict}" for verdict, count in self.snapshots.items()]
            yield f"Snapshots: {', '.join(counts) or 'none'}."
        if self.link:
            yield f"Write this down, and compare with it later: --expect {self.position}:{self.link}"


class Command(BaseCommand):
    help = (
        "Verify that the log is whole: positions, versions, types, payloads, outbox, checkpoints, and the hash chain, "
        "which is computed again. It changes and locks nothing, and can run beside everything else. "
        f"Of each kind of finding the first {SHOWN} are shown. "
        "Exit codes: 0 sound, 1 something is wrong or failure, 2 usage, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from", type=int, default=1, dest="start", metavar="POSITION", help="go on from this position of the log"
        )
        parser.add_argument("--snapshots", action="store_true", help="also compute every snapshot again, and compare")
        parser.add_argument(
            "--expect",
            type=_link,
            metavar="POSITION:LINK",
            help="what an earlier run said to write down: the log still has to have it",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, start: int, snapshots: bool, expect: Link | None, json: bool, **options: Any) -> None:
        verification = None
        try:
            verification = _begin(start, expect)
            interrupted = _walk(verification, snapshots=snapshots)
            report = Report.of(verification, interrupted=interrupted, snapshots=snapshots)
        except (DatabaseError, InterfaceError) as error:
            reached = f" Go on with --from {verification.next}." if verification and verification.next > start else ""
            raise CommandError(f"The database can't be asked: {' '.join(str(error).split())}{reached}") from error
        self.stdout.write(msgspec.json.encode(report).decode() if json else str(report))
        if interrupted:
            rest = f"--from {verification.next}{' --snapshots' if snapshots else ''}"
            self.stderr.write(f"Interrupted. Go on with `manage.py verify_events {rest}`.")
            sys.exit(130)
        if report.findings:
            sys.exit(1)


def _begin(start: int, expected: Link | None) -> Verification:
    after = checkpoints.head() + 1
    if not 1 <= start <= after:
        raise CommandError(f"--from takes a position from 1 to the one after the head, {after:,}.", returncode=2)
    return Verification(start, expected=expected)


def _walk(verification: Verification, *, snapshots: bool) -> bool:
    """Verify everything that was asked for. Returns whether somebody interrupted it."""
    console = Console(stderr=True)
    with (
        interruption() as interrupted,
        suppress(KeyboardInterrupt),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress,
    ):
        walks = [("log", verification.steps(), verification.head - verification.start + 1)]
        if snapshots:
            walks.append(("snapshots", verification.snapshot_steps(), Snapshot.objects.count()))
        for name, steps, total in walks:
            task = progress.add_task(name, total=total, rate=0)
            for done in steps:
                progress.update(task, completed=done, rate=progress.tasks[task].speed or 0)
                if interrupted.asked:
                    return True
    return interrupted.asked


def _link(text: str) -> Link:
    """What `verify_events` says to write down."""
    if not re.fullmatch(r"\d+:[0-9a-f]{64}", text):
        raise ArgumentTypeError(f"{text!r} isn't a position, a colon and a link of 64 hexadecimal digits.")
    position, _, link = text.partition(":")
    return Link(int(position), bytes.fromhex(link))
