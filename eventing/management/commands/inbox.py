from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventing import audit, inbox
from eventing.models import InboxEntry


class Command(BaseCommand):
    help = (
        "List what providers told by webhooks and nobody could understand, or have it tried again. "
        "Exit codes: 0 done, 1 nothing was tried again, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["list", "retry"])
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="of those to be tried again")

    def handle(self, *args: Any, action: str, ids: list[int], **options: Any) -> None:
        if action == "list":
            for entry in InboxEntry.objects.exclude(state=InboxEntry.State.DONE).order_by("pk"):
                about = f"{entry.source} {entry.provider} {entry.event_id}"
                self.stdout.write(f"{entry.pk}\t{entry.state}\t{about}\t{entry.attempts} attempts\t{entry.error}")
            return
        if not ids:
            raise CommandError("Say which: manage.py inbox retry ID…", returncode=2)
        found = InboxEntry.objects.filter(pk__in=ids, state=InboxEntry.State.DEAD)
        for entry in found:
            audit.note(audit.shell_user(), "retried", entry, os_user=audit.shell_name())
        retried = inbox.retry(ids)
        self.stdout.write(f"{retried} of {len(ids)} will be tried again.")
        if not retried:
            raise CommandError("None of these was given up; see manage.py inbox list.")
