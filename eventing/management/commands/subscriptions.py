from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventing import audit, checkpoints, pausing
from eventing.subscriptions import UnknownSubscription, subscription_named


class Command(BaseCommand):
    help = (
        "Pause or resume a subscription, or split a paused one into as many partitions as its declaration says. "
        "Exit codes: 0 done, 1 failure, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["pause", "resume", "repartition"])
        parser.add_argument("name", metavar="NAME", help="such as orders.OrderSummaries; see eventing_status")

    def handle(self, *args: Any, action: str, name: str, **options: Any) -> None:
        try:
            subscription = subscription_named(name)
        except UnknownSubscription as error:
            raise CommandError(str(error), returncode=2) from error
        match action:
            case "pause":
                paused = pausing.pause(subscription, who=audit.shell_user(), os_user=audit.shell_name())
                self.stdout.write(f"{name}: {paused} partitions paused.")
            case "resume":
                resumed = pausing.resume(subscription, who=audit.shell_user(), os_user=audit.shell_name())
                self.stdout.write(f"{name}: {resumed} partitions go on.")
            case _:
                try:
                    checkpoints.repartition(subscription)
                except checkpoints.NotDrained as error:
                    raise CommandError(str(error)) from error
                self.stdout.write(f"{name}: {subscription.partitions} partitions, paused until you resume it.")
