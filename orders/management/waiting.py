"""Waits for what the workers do, and shows how far they are."""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import UUID

from django.db.models import Count
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eventing.status import status
from orders.models import OrderSummary, Status

POLL_SECONDS = 0.5
ENDED = (Status.CONFIRMED, Status.CANCELLED, Status.SHIPPED, Status.DELIVERED)
"""States of orders of which nothing is under way any more."""


def progress(total: int, what: str) -> Progress:
    """A bar with count, rate and time to go, on a terminal only."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(f"{what:<7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    bar.add_task(what, total=total, rate=0.0)
    return bar


def wait_until(states: Collection[Status], orders: Collection[UUID], what: str) -> dict[str, int]:
    """Wait until each of these orders is in one of these states, as the read model shows it. Returns how many are in
    which."""
    with progress(len(orders), what) as bar:
        task, started = bar.tasks[0].id, time.monotonic()
        while True:
            found = dict(
                OrderSummary.objects.filter(pk__in=orders).order_by().values_list("status").annotate(orders=Count("pk"))
            )
            there = sum(count for state, count in found.items() if state in states)
            bar.update(task, completed=there, rate=there / (time.monotonic() - started))
            if there == len(orders):
                return found
            time.sleep(POLL_SECONDS)


def wait_until_shown() -> None:
    """Wait until the read models of orders show all that has been recorded."""
    with Console(stderr=True).status("Waiting until the read models of orders have caught up"):
        while not _all_is_shown():
            time.sleep(POLL_SECONDS)


def _all_is_shown() -> bool:
    now = status()
    shown = [each for each in now.subscriptions if each.kind == "projection" and each.name.startswith("orders.")]
    return not now.outbox.backlog and not any(each.lag for each in shown)
