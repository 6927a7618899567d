from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from rich.console import Console
from rich.table import Table

from eventing import deliveries
from eventing.models import Delivery
from eventing.subscriptions import UnknownSubscription, subscription_named


class Command(BaseCommand):
    help = (
        "List events that failed, retry them, or skip them for a written reason. While one is open, later events of "
        "its sequence wait behind it. Exit codes: 0 done, 1 nothing matched or failure, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="show events that failed and aren't settled")
        listing.add_argument("--json", action="store_true", help="one JSON document on standard output")
        retry = actions.add_parser("retry", help="try again at once, with all attempts")
        skip = actions.add_parser("skip", help="give up; the next events of the sequence go on")
        skip.add_argument("--reason", required=True, help="why, for those who ask later")
        for action in (listing, retry, skip):
            action.add_argument("--subscription", default="", help="only of this subscription")
        for action in (retry, skip):
            action.add_argument("ids", nargs="*", type=int, metavar="ID", help="letters by number")
            action.add_argument("--all", action="store_true", help="all dead letters that match")
            action.add_argument("--dry-run", action="store_true", help="only say how many it would be")

    def handle(self, *args: Any, action: str, subscription: str, **options: Any) -> None:
        letters = deliveries.failed().order_by("subscription", "position")
        if subscription:
            letters = letters.filter(subscription=_known(subscription))
        if action == "list":
            self._list(letters, as_json=options["json"])
            return
        if action == "skip" and not options["reason"].strip():
            raise CommandError("The reason is empty: say why these events may be left out.", returncode=2)
        chosen = _chosen(letters, options["ids"], every=options["all"])
        if options["dry_run"]:
            self.stdout.write(
                f"{len(chosen)} would be tried again." if action == "retry" else f"{len(chosen)} would be skipped."
            )
        elif action == "retry":
            self.stdout.write(f"{deliveries.retry(Delivery.objects.filter(pk__in=chosen))} will be tried again.")
        else:
            skipped = deliveries.skip(Delivery.objects.filter(pk__in=chosen), reason=options["reason"].strip())
            self.stdout.write(f"{skipped} skipped.")

    def _list(self, letters: QuerySet[Delivery], *, as_json: bool) -> None:
        found = [Letter.of(letter) for letter in letters]
        if as_json:
            self.stdout.write(msgspec.json.encode(found).decode())
        elif not found:
            self.stdout.write("Nothing has failed.")
        else:
            table = Table("ID", "Subscription", "Sequence", "State", "Attempts", "Behind it", "Error")
            for letter in found:
                table.add_row(
                    str(letter.id),
                    letter.subscription,
                    letter.sequence,
                    letter.state,
                    str(letter.attempts),
                    str(letter.waiting_behind),
                    letter.error,
                )
            Console(width=None if sys.stdout.isatty() else 200).print(table)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as the list shows it."""

    id: int
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


def _known(name: str) -> str:
    try:
        return subscription_named(name).name
    except UnknownSubscription as error:
        raise CommandError(str(error), returncode=2) from error


def _chosen(letters: QuerySet[Delivery], ids: list[int], *, every: bool) -> list[int]:
    if bool(ids) == every:
        raise CommandError("Name the letters by their numbers, or say --all.", returncode=2)
    chosen = list(
        (letters.filter(pk__in=ids) if ids else letters.filter(state=Delivery.State.DEAD)).values_list("pk", flat=True)
    )
    unknown = sorted(set(ids) - set(chosen))
    if unknown:
        raise CommandError(f"No open letters have these numbers: {', '.join(map(str, unknown))}.")
    if not chosen:
        raise CommandError("There are no dead letters that match.")
    return chosen
