from __future__ import annotations

from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Column, Table

from eventing.management.terminal import terminal
from eventing.status import Status, status


class Command(BaseCommand):
    help = (
        "Show the head of the log, the outbox, the inbox, and each subscription's lag, rate and state. "
        "Exit codes: 0 shown, 1 failure, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        now = status()
        if json:
            self.stdout.write(msgspec.json.encode(now).decode())
        else:
            show(now, terminal(width=120))


def show(now: Status, console: Console) -> None:
    """Print the status for a person."""
    outbox = now.outbox
    console.print(f"Log: {now.head:,} events. Outbox: {outbox.backlog:,}, oldest {outbox.oldest_seconds:.1f} s.")
    console.print(f"Inbox: {now.inbox.waiting:,} waiting, {now.inbox.dead:,} dead.")
    if outbox.retries:
        console.print(f"The relay has failed {outbox.retries} times: {outbox.last_error}")
    table = Table(
        Column("Subscription", no_wrap=True), "Kind", "State", "Lag", "Events/s", "Handled", "Waiting", "Dead"
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for each in now.subscriptions:
        table.add_row(
            each.name,
            each.kind,
            each.state,
            *(f"{number:,.0f}" for number in (each.lag, each.rate, each.handled, each.waiting, each.dead)),
        )
    console.print(table)
