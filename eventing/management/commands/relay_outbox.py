from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, connection

from eventing.management.interruption import interruption
from eventing.relay import relay_all

IDLE_SECONDS = 0.05
DOWN_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Move committed events from the outbox to the log, until interrupted. It's safe beside workers, which relay "
        "too: one relay works at a time. Exit codes: 0 done or interrupted, 1 failure, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop when the outbox is empty")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        moved = 0
        with interruption() as interrupted, suppress(KeyboardInterrupt):
            while not interrupted.asked:
                try:
                    moved += sum(relay_all())
                except OperationalError as error:
                    if once:
                        raise
                    self.stderr.write(f"The database can't be used, trying again: {error}")
                    connection.close()
                    time.sleep(DOWN_SECONDS)
                if once:
                    break
                time.sleep(IDLE_SECONDS)
        self.stdout.write(f"{moved} events moved to the log.")
