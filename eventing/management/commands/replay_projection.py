from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from eventing import audit, checkpoints, replay, replaying, shadows
from eventing.comparison import Comparison
from eventing.management.interruption import interruption
from eventing.management.terminal import text_of
from eventing.models import Replay
from eventing.projections import ProjectionSubscription
from eventing.subscriptions import UnknownSubscription

DIFFERENT = 4
"""The exit code for a read model that was only verified, and differs."""

ACTIONS: dict[str, Callable[..., Replay]] = {
    "pause": replaying.pause,
    "resume": replaying.resume,
    "exchange": replaying.exchange,
    "cancel": replaying.cancel,
    "rollback": replaying.roll_back,
}


class Command(BaseCommand):
    help = (
        "Rebuild read models from the log, beside the live ones: those go on being read and updated until the rebuilt "
        "one is compared with it and takes its place, in one transaction. The old one is kept for --rollback until the "
        "next replay. Interrupt or kill it whenever you like: the same command goes on where it stopped. "
        "Exit codes: 0 done; 1 failure, the live read model is as it was; 2 usage; "
        f"{DIFFERENT} --verify-only found differences; 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="projections, such as orders.OrderSummaries")
        parser.add_argument("--all", action="store_true", help="every projection, one after the other")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be replayed")
        how = parser.add_argument_group("how to replay")
        how.add_argument(
            "--in-place", action="store_true", help="empty the live one first: readers see it grow, no disk is needed"
        )
        how.add_argument("--verify-only", action="store_true", help="compare, and change nothing")
        how.add_argument(
            "--until", type=int, metavar="POSITION", help="stop here; live updates go on from there, unless paused"
        )
        how.add_argument(
            "--with-failures", action="store_true", help="take it even if events fail: they'll be dead letters"
        )
        actions = parser.add_argument_group("what to do to replays that run elsewhere").add_mutually_exclusive_group()
        for action, meaning in (
            ("status", "show the last replay of each projection"),
            ("pause", "let it wait"),
            ("resume", "let it go on"),
            ("exchange", "the workers' is compared and waits: let it take the live one's place"),
            ("cancel", "give it up"),
            ("rollback", "put back what the last replay replaced, brought up to date"),
        ):
            actions.add_argument(f"--{action}", action="store_true", help=meaning)

    def handle(self, *args: Any, names: list[str], all: bool, json: bool, **options: Any) -> None:
        if options["status"] and not (names or all):
            self._show([Report.of(each) for each in replay.latest()], as_json=json)
            return
        chosen = _chosen(names, every=all)
        _check(options)
        if options["status"]:
            wanted = {each.name for each in chosen}
            self._show([Report.of(each) for each in replay.latest() if each.projection in wanted], as_json=json)
        elif options["dry_run"]:
            self._plan(chosen, as_json=json)
        elif action := next((name for name in ACTIONS if options[name]), None):
            self._show([Report.of(_act(ACTIONS[action], each)) for each in chosen], as_json=json)
        else:
            self._replay(chosen, as_json=json, **options)

    def _replay(self, chosen: list[ProjectionSubscription], *, as_json: bool, **options: Any) -> None:
        ended = []
        for projection in chosen:
            try:
                begun = replaying.start(
                    projection,
                    who=audit.shell_user(),
                    by_workers=False,
                    noted={"os_user": audit.shell_name()},
                    in_place=options["in_place"],
                    verify_only=options["verify_only"],
                    with_failures=options["with_failures"],
                    until=options["until"],
                )
                self._watch(begun)
            except (replay.Busy, replay.Failed, shadows.NotShadowable) as error:
                raise CommandError(f"{projection.name}: {error}") from error
            ended.append(Report.of(Replay.objects.get(pk=begun.pk)))
        self._show(ended, as_json=as_json)
        if any(each.state == Replay.State.CANCELLED for each in ended):
            raise CommandError("A replay was cancelled. The live read model is as it was.")
        if options["verify_only"] and any(each.comparison and not each.comparison.same for each in ended):
            sys.exit(DIFFERENT)

    def _watch(self, begun: Replay) -> None:
        console = Console(stderr=True)
        with (
            interruption() as interrupted,
            suppress(KeyboardInterrupt),
            Progress(
                TextColumn(begun.projection),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                disable=not console.is_terminal,
            ) as progress,
        ):
            task = progress.add_task("replay", total=begun.target or None, completed=begun.position, note="")
            for now in replay.run(begun):
                note = "paused" if now.state == Replay.State.PAUSED else f"{now.rate:,.0f}/s"
                progress.update(task, completed=now.position, total=now.target, note=note)
                if interrupted.asked:
                    break
        if interrupted.asked and Replay.objects.get(pk=begun.pk).state in Replay.OPEN:
            self.stderr.write(_how_to_go_on(begun))
            sys.exit(130)

    def _plan(self, chosen: list[ProjectionSubscription], *, as_json: bool) -> None:
        head = checkpoints.head()
        plans = [
            Plan(projection=each.name, positions=head * each.partitions, bytes_now=shadows.size(each))
            for each in chosen
        ]
        if as_json:
            self.stdout.write(msgspec.json.encode(plans).decode())
        for plan in () if as_json else plans:
            self.stdout.write(
                f"{plan.projection} would be rebuilt from {plan.positions:,} positions; "
                f"its table takes {plan.bytes_now / 2**20:,.1f} MiB now, and would take that twice."
            )

    def _show(self, reports: list[Report], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(msgspec.json.encode(reports).decode())
            return
        if not reports:
            self.stdout.write("Nothing has been replayed.")
        for each in reports:
            self.stdout.write(str(each))
            if each.comparison and each.state != Replay.State.ROLLED_BACK:
                self.stdout.write(_told(each.comparison))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay would have to go through."""

    projection: str
    positions: int
    bytes_now: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A replay as its row tells of it. Positions are summed up over all partitions."""

    projection: str
    state: str
    in_place: bool
    tended: bool
    position: int
    target: int
    positions_per_second: float
    seconds_left: float | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    comparison: Comparison | None
    error: str

    @classmethod
    def of(cls, row: Replay) -> Report:
        """What is known of a replay."""
        left = row.target - row.position
        return cls(
            projection=row.projection,
            state=row.state,
            in_place=row.in_place,
            tended=replay.is_tended(row),
            position=row.position,
            target=row.target,
            positions_per_second=round(row.rate, 1),
            seconds_left=round(left / row.rate, 1) if row.rate and row.state in Replay.OPEN else None,
            started_by=row.started_by,
            started_at=row.started_at,
            finished_at=row.finished_at,
            comparison=replay.comparison_of(row),
            error=row.error,
        )

    def __str__(self) -> str:
        if self.state == Replay.State.ROLLED_BACK:
            return f"{self.projection}: rolled back. What the replay replaced is live again, brought up to date."
        line = f"{self.projection}: {self.state}{' in place' if self.in_place else ''}, {self.position:,} of "
        line += f"{self.target:,} positions, {self.positions_per_second:,.0f} a second."
        if self.finished_at:
            line += f" It took {(self.finished_at - self.started_at).total_seconds():,.1f} s."
        elif not self.tended:
            line += " No process is at it: run the same replay again, and it goes on."
        return f"{line} {self.error}".rstrip()


def _told(comparison: Comparison) -> str:
    if comparison.same:
        return f"Compared: {comparison.live_rows:,} rows, all the same; checksum {comparison.live_checksum}."
    table = Table("Key", "Live", "Rebuilt")
    for each in comparison.differences:
        table.add_row(each.key, *("missing" if side is None else _fields(side) for side in (each.live, each.rebuilt)))
    differ = "row differs" if comparison.different == 1 else "rows differ"
    return (
        f"Compared: {comparison.different:,} {differ}. Live {comparison.live_rows:,} rows, checksum "
        f"{comparison.live_checksum}; rebuilt {comparison.rebuilt_rows:,}, {comparison.rebuilt_checksum}. "
        f"The first {len(comparison.differences)}:\n{text_of(table, width=160)}"
    )


def _fields(row: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in row.items())


def _how_to_go_on(begun: Replay) -> str:
    command = f"manage.py replay_projection {begun.projection}{' --in-place' if begun.in_place else ''}"
    what = (
        "is rebuilt in part and gets no new events"
        if begun.in_place
        else "is as it was, and what was built beside it is kept"
    )
    return f"Interrupted: {begun.projection} {what}. Go on with `{command}`."


def _act(action: Callable[..., Replay], projection: ProjectionSubscription) -> Replay:
    try:
        return action(projection, who=audit.shell_user(), os_user=audit.shell_name())
    except (replay.NoReplay, replay.Busy) as error:
        raise CommandError(str(error)) from error


def _check(options: dict[str, Any]) -> None:
    """Raises CommandError for options that contradict each other."""
    until = options["until"]
    if options["verify_only"] and (options["in_place"] or until is not None):
        raise CommandError(
            "--verify-only compares a read model with the live one, at the same position: it goes neither with "
            "--in-place nor with --until.",
            returncode=2,
        )
    if until is not None and not 0 < until <= checkpoints.head():
        raise CommandError(f"--until is a position from 1 to the head, {checkpoints.head():,}.", returncode=2)


def _chosen(names: list[str], *, every: bool) -> list[ProjectionSubscription]:
    if bool(names) == every:
        raise CommandError(
            f"Name projections, or say --all. There are: {', '.join(each.name for each in replay.projections())}.",
            returncode=2,
        )
    try:
        return replay.projections() if every else [replay.projection_named(name) for name in names]
    except (UnknownSubscription, replay.NotReplayable) as error:
        raise CommandError(str(error), returncode=2) from error
