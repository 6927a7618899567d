from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from eventing import audit, inbox
from eventing.models import InboxEntry

State = InboxEntry.State


class Command(BaseCommand):
    help = (
        "List what providers told by webhooks and nobody could understand, have it tried again, or skip what a person "
        "has seen to. Exit codes: 0 done, 1 nothing was tried again or skipped, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="those that were given up, and those that wait")
        retry = actions.add_parser("retry", help="have entries tried again that were given up")
        skip = actions.add_parser("skip", help="settle entries that were given up, once they were seen to")
        for each in (retry, skip):
            each.add_argument("ids", nargs="+", type=int, metavar="ID", help="as inbox list shows it")
        skip.add_argument("--reason", required=True, help="why, for those who ask later")

    def handle(self, *args: Any, action: str, ids: list[int] | None = None, reason: str = "", **options: Any) -> None:
        if action == "list":
            for entry in InboxEntry.objects.filter(state__in=[State.WAITING, State.DEAD]).order_by("pk"):
                about = f"{entry.source} {entry.provider} {entry.event_id}"
                self.stdout.write(f"{entry.pk}\t{entry.state}\t{about}\t{entry.attempts} attempts\t{entry.error}")
            return
        if action == "skip" and not reason.strip():
            raise CommandError("Say why it can be skipped: --reason TEXT", returncode=2)
        chosen = list(ids or [])
        with transaction.atomic():
            found = list(InboxEntry.objects.select_for_update().filter(pk__in=chosen, state=State.DEAD))
            for entry in found:
                if action == "retry":
                    audit.note(audit.shell_user(), "retried", entry, os_user=audit.shell_name())
                else:
                    audit.note(audit.shell_user(), "skipped", entry, reason=reason, os_user=audit.shell_name())
            keys = [entry.pk for entry in found]
            settled = inbox.retry(keys) if action == "retry" else inbox.skip(keys)
        become = "will be tried again" if action == "retry" else "are skipped"
        self.stdout.write(f"{settled} of {len(chosen)} {become}.")
        if not settled:
            raise CommandError("None of these was given up; see manage.py inbox list.")
