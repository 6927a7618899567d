from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from eventing import audit, deliveries, letter_jobs, letters, personal
from eventing.domain import Rejected
from eventing.letters import Filter
from eventing.management.terminal import text_of
from eventing.models import Delivery, LetterJob
from eventing.subscriptions import UnknownSubscription, subscription_named

WIDTH = 200
SHOWN = 100
POLL_SECONDS = 0.5


class Command(BaseCommand):
    help = (
        "List events that failed, by groups of one cause; show one with every attempt; retry them, or skip them for a "
        "written reason. While one is open, later events of its sequence wait behind it. Exit codes: 0 done, 1 nothing "
        "matched, failure, or a job that stopped, 2 usage, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="groups of events that failed and aren't settled, and the events")
        listing.add_argument("--groups", action="store_true", help="only the groups")
        show = actions.add_parser("show", help="one of them: its event, each attempt, and what waits behind it")
        show.add_argument("id", type=int, metavar="ID")
        show.add_argument("--with-personal-data", action="store_true", help="don't hide what tells of a person")
        retry = actions.add_parser(
            "retry", help="try again, with all attempts: those with numbers at once, others gradually, as a job"
        )
        retry.add_argument("--at-once", action="store_true", help="all of them now, not 1, 2, 5, 20, 100 at a time")
        retry.add_argument("--wait", action="store_true", help="wait until the job has ended, and show its progress")
        retry.add_argument(
            "--tolerance",
            type=float,
            default=letter_jobs.TOLERANCE,
            metavar="SHARE",
            help="stop the job when more than this share of a wave fails again (default: %(default)s)",
        )
        skip = actions.add_parser("skip", help="give up; the next events of the sequence go on")
        skip.add_argument("--reason", required=True, help="why, for those who ask later")
        for action in (listing, retry, skip):
            action.add_argument("--subscription", default="", help="only of this subscription")
            action.add_argument("--group", default="", metavar="SIGNATURE", help="only of this group")
            action.add_argument("--sequence", default="", help="only of this sequence, such as one order")
            action.add_argument("--event", default="", metavar="TYPE", help="only events of this type")
        for action in (retry, skip):
            action.add_argument("ids", nargs="*", type=int, metavar="ID", help="letters by number")
            action.add_argument("--all", action="store_true", help="all dead letters that match")
            action.add_argument("--dry-run", action="store_true", help="only say how many it would be")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        match action:
            case "list":
                self._list(_filter(options), only_groups=options["groups"], as_json=options["json"])
            case "show":
                self._show(options["id"], with_personal_data=options["with_personal_data"], as_json=options["json"])
            case "retry":
                self._retry(_chosen(options, letters.to_retry), options)
            case _:
                self._skip(_chosen(options, Filter.letters), options)

    def _list(self, asked: Filter, *, only_groups: bool, as_json: bool) -> None:
        found = asked.letters().select_related("event")
        groups = _groups(asked, found)
        if as_json:
            listed = groups if only_groups else [Letter.of(letter) for letter in found]
            self.stdout.write(msgspec.json.encode(listed).decode())
        elif not found.exists():
            self.stdout.write("Nothing has failed.")
        else:
            self.stdout.write(text_of(_table_of_groups(groups), width=WIDTH))
            if not only_groups:
                self.stdout.write(text_of(_table(found[:SHOWN]), width=WIDTH))
                if (left := found.count() - SHOWN) > 0:
                    self.stdout.write(f"And {left:,} more: choose a group with --group, or ask for --json.")

    def _show(self, number: int, *, with_personal_data: bool, as_json: bool) -> None:
        letter = Delivery.objects.select_related("event").filter(pk=number).first()
        if letter is None:
            raise CommandError(f"There's no letter {number}. `manage.py dead_letters list` shows which there are.")
        shown = Shown.of(letter, with_personal_data=with_personal_data)
        if as_json:
            self.stdout.write(msgspec.json.encode(shown).decode())
            return
        self.stdout.write(
            f"Letter {number}: {shown.letter.subscription} at {shown.letter.event}, position {shown.letter.position}, "
            f"of {shown.letter.sequence}\n{shown.letter.state}, {shown.letter.waiting_behind:,} waiting behind it"
        )
        self.stdout.write(msgspec.json.format(msgspec.json.encode(shown.data)).decode())
        for failure in shown.attempts:
            if failure.failed_at is None:
                self.stdout.write(f"Attempt {failure.number} never ended: its worker died.")
            else:
                self.stdout.write(f"Attempt {failure.number}, {failure.failed_at:%Y-%m-%d %H:%M:%S}, {failure.worker}:")
                self.stdout.write(failure.traceback or failure.error)

    def _retry(self, chosen: Filter, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self._tell(letters.to_retry(chosen).count(), "would be tried again", options)
        elif chosen.ids or options["at_once"]:
            again = letters.retry(chosen, who=audit.shell_user(), os_user=audit.shell_name())
            self._tell(again, "will be tried again", options)
        else:
            self._begin(chosen, options)

    def _tell(self, count: int, what: str, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(msgspec.json.encode({"letters": count, "dry_run": options["dry_run"]}).decode())
        else:
            self.stdout.write(f"{count} {what}.")

    def _begin(self, chosen: Filter, options: dict[str, Any]) -> None:
        try:
            job = letter_jobs.start(
                chosen, who=audit.shell_user(), tolerance=options["tolerance"], os_user=audit.shell_name()
            )
        except Rejected as refusal:
            raise CommandError(str(refusal)) from refusal
        if options["wait"]:
            self._watch(job)
        job.refresh_from_db()
        told = letter_jobs.progress(job)
        if options["json"]:
            document = {"job": job.pk, "state": job.state, "said": job.said, **msgspec.to_builtins(told)}
            self.stdout.write(msgspec.json.encode(document).decode())
        elif job.state == LetterJob.State.RUNNING:
            self.stdout.write(f"Job {job.pk}: {told.total:,} will be tried again, gradually, by the workers.")
        else:
            self.stdout.write(f"Job {job.pk}: {told.succeeded:,} succeeded, {told.failed:,} failed again. {job.said}")
        if job.state == LetterJob.State.STOPPED:
            sys.exit(1)

    def _watch(self, job: LetterJob) -> None:
        console = Console(stderr=True)
        try:
            with Progress(console=console, disable=not console.is_terminal) as progress:
                task = progress.add_task(f"Job {job.pk}", total=letter_jobs.progress(job).total)
                while LetterJob.objects.filter(pk=job.pk, state=LetterJob.State.RUNNING).exists():
                    progress.update(task, completed=letter_jobs.progress(job).over)
                    time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stderr.write(f"\nInterrupted. Job {job.pk} goes on by itself; its page has a button to cancel it.")
            sys.exit(130)

    def _skip(self, chosen: Filter, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self._tell(chosen.letters().count(), "would be skipped", options)
            return
        try:
            skipped = letters.skip(chosen, reason=options["reason"], who=audit.shell_user(), os_user=audit.shell_name())
        except Rejected as refusal:
            raise CommandError(str(refusal), returncode=2) from refusal
        self._tell(skipped, "skipped", options)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as the list shows it."""

    id: int
    group: str
    subscription: str
    sequence: str
    state: str
    attempts: int
    event: str
    position: int
    next_attempt_at: datetime | None
    waiting_behind: int
    error: str

    @classmethod
    def of(cls, letter: Delivery) -> Letter:
        """What is known of a delivery that failed."""
        return cls(
            id=letter.pk,
            group=letter.signature,
            subscription=letter.subscription,
            sequence=letter.sequence,
            state=letter.state,
            attempts=letter.attempts,
            event=letter.event.type,
            position=letter.position,
            next_attempt_at=letter.due_at if letter.state == Delivery.State.WAITING else None,
            waiting_behind=deliveries.waiting_behind(letter),
            error=letter.error,
        )


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A letter with all that is known of it."""

    letter: Letter
    data: Any
    reason: str
    attempts: list[letters.Failure]

    @classmethod
    def of(cls, letter: Delivery, *, with_personal_data: bool) -> Shown:
        """What is known of a letter; what tells of persons only when asked for."""
        data = personal.masked(letter.event.data)
        if with_personal_data:
            (text,) = personal.opened([msgspec.json.encode(letter.event.data).decode()])
            data = msgspec.json.decode(text)
        return cls(
            letter=Letter.of(letter),
            data=data,
            reason=letter.reason,
            attempts=letters.failures_of(letter, with_personal_data=True),
        )


def _filter(options: dict[str, Any]) -> Filter:
    return Filter(
        subscription=_known(options["subscription"]) if options["subscription"] else "",
        signature=options["group"],
        sequence=options["sequence"],
        event_type=options["event"],
    )


def _chosen(options: dict[str, Any], fitting: Callable[[Filter], QuerySet[Delivery]]) -> Filter:
    """The letters that an act is about, of those that it can be done to. Raises CommandError when there are none, or
    none were named."""
    ids, asked = tuple(options["ids"]), _filter(options)
    if bool(ids) == (options["all"] or bool(asked.signature) or bool(asked.sequence)):
        raise CommandError("Name the letters by their numbers, or a --group or --sequence, or say --all.", returncode=2)
    if not ids:
        chosen = msgspec.structs.replace(asked, state=Delivery.State.DEAD)
        if not chosen.letters().exists():
            raise CommandError("There are no dead letters that match.")
        return chosen
    chosen = msgspec.structs.replace(asked, ids=ids)
    unknown = sorted(set(ids) - set(fitting(chosen).values_list("pk", flat=True)))
    if unknown:
        raise CommandError(f"No open letters have these numbers: {', '.join(map(str, unknown))}.")
    return chosen


def _known(name: str) -> str:
    try:
        return subscription_named(name).name
    except UnknownSubscription as error:
        raise CommandError(str(error), returncode=2) from error


def _groups(asked: Filter, found: QuerySet[Delivery]) -> list[letters.Group]:
    """The groups of which letters were asked for."""
    of_those = set(found.order_by().values_list("signature", flat=True).distinct())
    return [group for group in letters.groups(settings.EVENTING["SUBJECT"]["field"]) if group.signature in of_those]


def _table_of_groups(groups: list[letters.Group]) -> Table:
    subjects = settings.EVENTING["SUBJECT"]["names"].capitalize()
    table = Table("Group", "What failed", "Where", "Dead", "Retrying", subjects, "Behind", "First seen", "Last seen")
    for group in groups:
        table.add_row(
            group.signature,
            f"{group.exception}: {group.message}",
            f"{group.subscription} at {group.event_type}, in {group.frame or 'no code of ours'}",
            f"{group.dead:,}",
            f"{group.retrying:,}",
            f"{group.affected:,}",
            f"{group.behind:,}",
            f"{group.first_seen:%Y-%m-%d %H:%M:%S}",
            f"{group.last_seen:%Y-%m-%d %H:%M:%S}",
        )
    return table


def _table(found: QuerySet[Delivery]) -> Table:
    table = Table("ID", "Subscription", "Sequence", "State", "Attempts", "Behind it", "Error")
    for letter in map(Letter.of, found):
        table.add_row(
            str(letter.id),
            letter.subscription,
            letter.sequence,
            letter.state,
            str(letter.attempts),
            str(letter.waiting_behind),
            letter.error,
        )
    return table
