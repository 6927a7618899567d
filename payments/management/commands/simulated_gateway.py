from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from payments.models import GatewayOutage


class Command(BaseCommand):
    help = (
        "Put the simulated gateway out of order, and in order again, to see what becomes of orders meanwhile. "
        "Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("state", choices=["down", "up"])
        parser.add_argument("--message", default="The gateway answers 503 Service Unavailable.", help="what it says")

    def handle(self, *args: Any, state: str, message: str, **options: Any) -> None:
        if state == "down":
            GatewayOutage.objects.update_or_create(pk=1, defaults={"message": message})
            self.stdout.write("The simulated gateway is out of order: charges and refunds fail until it's up again.")
        else:
            GatewayOutage.objects.all().delete()
            self.stdout.write("The simulated gateway is in order.")
