from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from eventing import audit, resuming, stuck
from eventing.management.terminal import text_of
from eventing.models import SagaInstance
from eventing.resuming import NotResumable, Resumption, UnknownSaga
from eventing.saga_history import CommandShown, ReminderShown, StepShown, history_of, memory_of, reminders_of
from eventing.subscriptions import UnknownSubscription

WIDTH = 160


class Command(BaseCommand):
    help = (
        "List sagas, show one with all that it did and why it isn't finished, or let one go on. "
        "Exit codes: 0 done, 1 no such saga, or it can't be resumed, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="newest first")
        listing.add_argument(
            "--stuck", action="store_true", help="only those that failed, are late, or have dead letters"
        )
        listing.add_argument("--state", default="", help="only in this state, such as COMPENSATING")
        listing.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; 100 unless told")
        show = actions.add_parser("show", help="its history, its memory, its reminders, and why it isn't finished")
        show.add_argument("--with-personal-data", action="store_true", help="don't hide what tells of a person")
        resume = actions.add_parser("resume", help="try its letters again, and let it ask again for what it awaits")
        resume.add_argument("--dry-run", action="store_true", help="only say what it would do")
        for action in (show, resume):
            action.add_argument("key", metavar="ID", help="its key: the order's id, for most")
        for action in (listing, show, resume):
            action.add_argument("--saga", default="", metavar="NAME", help="such as orders.OrderFulfilment")
            action.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, action: str, saga: str, json: bool, **options: Any) -> None:
        if saga:
            _check_name(saga)
        match action:
            case "list":
                self._list(saga, as_json=json, **options)
            case "show":
                found = _find(options["key"], saga)
                self._show(found, as_json=json, with_personal_data=options["with_personal_data"])
            case _:
                self._resume(_find(options["key"], saga), as_json=json, dry_run=options["dry_run"])

    def _list(self, saga: str, *, as_json: bool, limit: int, state: str, **options: Any) -> None:
        if limit < 1:
            raise CommandError("--limit is 1 or more.", returncode=2)
        sagas = stuck.stuck() if options["stuck"] else SagaInstance.objects.all()
        wanted = {name: value for name, value in (("saga", saga), ("state", state)) if value}
        found = [Listed.of(each, with_why=options["stuck"]) for each in sagas.filter(**wanted).order_by("-pk")[:limit]]
        if as_json:
            self.stdout.write(msgspec.json.encode(found).decode())
        elif not found:
            self.stdout.write("No saga is stuck." if options["stuck"] else "There are no such sagas.")
        else:
            self.stdout.write(text_of(_table(found, with_why=options["stuck"]), width=WIDTH))

    def _show(self, saga: SagaInstance, *, as_json: bool, with_personal_data: bool) -> None:
        shown = Shown.of(saga, with_personal_data=with_personal_data)
        if as_json:
            self.stdout.write(msgspec.json.encode(shown).decode())
            return
        self.stdout.write(f"{shown.saga} {shown.key}: {shown.state}\n{shown.why}")
        if shown.act not in (stuck.Act.NOTHING, stuck.Act.WAIT):
            self.stdout.write(f"What helps: {shown.act.value}{f', number {shown.letter}' if shown.letter else ''}.")
        steps = Table("", "At", "What came in", "State", "What it changed", "What it asked for")
        for step in shown.history:
            steps.add_row(
                str(step.number),
                f"{step.taken_at:%Y-%m-%d %H:%M:%S}",
                step.event or (step.reminder if step.letter else f"reminder: {step.reminder}"),
                f"{step.state}, late" if step.late else step.state,
                "\n".join(f"{name}: {_text(step.memory[name])}" for name in step.changed),
                "\n".join(map(_told, step.commands)),
            )
        self.stdout.write(text_of(steps, width=WIDTH))
        if len(shown.history) < saga.steps or not shown.history:
            self.stdout.write("What it did before its history was kept isn't known.")
        for reminder in shown.reminders:
            self.stdout.write(f"A reminder about {reminder.about!r} is due at {reminder.due_at:%Y-%m-%d %H:%M:%S} UTC.")

    def _resume(self, saga: SagaInstance, *, as_json: bool, dry_run: bool) -> None:
        try:
            if dry_run:
                done = resuming.plan(saga)
            else:
                done = resuming.resume(saga, who=audit.shell_user(), os_user=audit.shell_name())
        except NotResumable as error:
            raise CommandError(str(error)) from error
        if as_json:
            self.stdout.write(
                msgspec.json.encode({"letters": done.letters, "hears": done.hears, "dry_run": dry_run}).decode()
            )
        else:
            self.stdout.write(f"{saga.saga} {saga.key} {_what_happens(done, would=dry_run)}")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A saga as the list shows it; ``why`` only where stuck ones were asked for."""

    saga: str
    key: UUID
    state: str
    started_at: datetime
    updated_at: datetime
    deadline_at: datetime | None
    ended_at: datetime | None
    failed: bool
    why: str | None

    @classmethod
    def of(cls, saga: SagaInstance, *, with_why: bool) -> Listed:
        """What is known of a saga at a glance."""
        names = [name for name in cls.__struct_fields__ if name != "why"]
        why = stuck.why_unfinished(saga).sentence if with_why else None
        return cls(**{name: getattr(saga, name) for name in names}, why=why)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a saga: ``act`` is what helps, and ``letter`` the number of what it helps to do it to."""

    saga: str
    key: UUID
    state: str
    why: str
    act: stuck.Act
    letter: int | None
    memory: dict[str, Any]
    reminders: list[ReminderShown]
    history: list[StepShown]

    @classmethod
    def of(cls, saga: SagaInstance, *, with_personal_data: bool) -> Shown:
        """What the tables know."""
        why = stuck.why_unfinished(saga)
        return cls(
            saga=saga.saga,
            key=saga.key,
            state=saga.state,
            why=why.sentence,
            act=why.act,
            letter=why.letter,
            memory=memory_of(saga, with_personal_data=with_personal_data),
            reminders=reminders_of(saga),
            history=history_of(saga, with_personal_data=with_personal_data),
        )


def _table(found: list[Listed], *, with_why: bool) -> Table:
    table = Table("Saga", "Key", "State", "Since", "Deadline", *(["Why"] if with_why else []))
    for each in found:
        deadline = f"{each.deadline_at:%Y-%m-%d %H:%M:%S}" if each.deadline_at else ""
        row = [each.saga, str(each.key), each.state, f"{each.updated_at:%Y-%m-%d %H:%M:%S}", deadline]
        table.add_row(*row, *([each.why] if with_why else []))
    return table


def _told(command: CommandShown) -> str:
    return f"{command.name}, refused: {command.refused}" if command.refused else command.name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _what_happens(done: Resumption, *, would: bool) -> str:
    letters = f"{done.letters} {'letter' if done.letters == 1 else 'letters'}"
    tried = f"would have {letters} tried again" if would else f"has {letters} tried again"
    heard = "would hear of it" if would else "hears of it as soon as it has seen everything else"
    if done.hears:
        return f"{tried}, and {heard}." if done.letters else f"{heard}."
    return f"{tried}. It wouldn't hear of being resumed: its `react` doesn't consume `Resumed`."


def _check_name(name: str) -> None:
    try:
        resuming.saga_named(name)
    except UnknownSubscription as error:
        raise CommandError(str(error), returncode=2) from error


def _find(key: str, name: str) -> SagaInstance:
    try:
        return resuming.find(UUID(key), name)
    except ValueError as error:
        raise CommandError(
            f"{key!r} is no saga's key: that is an id such as 0197a000-0000-7000-8000-000000000001.", returncode=2
        ) from error
    except UnknownSaga as error:
        raise CommandError(f"{error} `manage.py sagas list` names the newest.") from error
