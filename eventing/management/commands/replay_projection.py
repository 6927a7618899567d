from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eventing.projections import ProjectionSubscription
from eventing.replay import NotReplayable, projection_named, projections, replay, total
from eventing.subscriptions import UnknownSubscription


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did."""

    projection: str
    positions: int
    seconds: float
    positions_per_second: float


class Command(BaseCommand):
    help = (
        "Rebuild read models from the log. They are rebuilt IN PLACE: emptied first, so that readers see only what "
        "has been rebuilt so far until it's done; events that arrive meanwhile are included. Interrupt it whenever "
        "you like: the same command goes on where it stopped. Exit codes: 0 done, 1 failure, 2 usage, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="projections, such as orders.OrderSummaries")
        parser.add_argument("--all", action="store_true", help="every projection")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, names: list[str], all: bool, json: bool, **options: Any) -> None:
        chosen = _chosen(names, every=all)
        if not json:
            self.stderr.write(f"Rebuilding in place: {', '.join(each.name for each in chosen)}.")
        done = [self._replay(each) for each in chosen]
        if json:
            self.stdout.write(msgspec.json.encode(done).decode())
        for each in () if json else done:
            self.stdout.write(
                f"{each.projection}: {each.positions:,} positions in {each.seconds:.1f} s, "
                f"{each.positions_per_second:,.0f} a second."
            )

    def _replay(self, projection: ProjectionSubscription) -> Replayed:
        started, positions = time.monotonic(), 0
        console = Console(stderr=True)
        with Progress(
            TextColumn(projection.name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress:
            task = progress.add_task("replay", total=total(projection), rate=0.0)
            try:
                for step in replay(projection):
                    positions += step
                    rate = positions / max(time.monotonic() - started, 1e-6)
                    progress.update(task, completed=positions, total=max(total(projection), positions), rate=rate)
            except KeyboardInterrupt:
                progress.stop()
                self.stderr.write(
                    f"Interrupted: {projection.name} is rebuilt in part and gets no new events. "
                    f"Go on with `manage.py replay_projection {projection.name}`."
                )
                sys.exit(130)
        seconds = time.monotonic() - started
        return Replayed(
            projection=projection.name,
            positions=positions,
            seconds=round(seconds, 3),
            positions_per_second=round(positions / max(seconds, 1e-6), 1),
        )


def _chosen(names: list[str], *, every: bool) -> list[ProjectionSubscription]:
    if bool(names) == every:
        raise CommandError(
            f"Name projections, or say --all. There are: {', '.join(each.name for each in projections())}.",
            returncode=2,
        )
    try:
        return projections() if every else [projection_named(name) for name in names]
    except (UnknownSubscription, NotReplayable) as error:
        raise CommandError(str(error), returncode=2) from error
