from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from shipping.carrier import CarrierRefused, Scan
from shipping.carrier.simulated import tell


class Command(BaseCommand):
    help = (
        "Let the simulated carrier tell where a parcel is, by a webhook, as a carrier does. "
        "Exit codes: 0 done, 1 there's no such parcel, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("scan", choices=[scan.value for scan in Scan])
        parser.add_argument("tracking_number")

    def handle(self, *args: Any, scan: str, tracking_number: str, **options: Any) -> None:
        try:
            new = tell(tracking_number, Scan(scan))
        except CarrierRefused as error:
            raise CommandError(str(error)) from error
        self.stdout.write("It has told; the workers hear of it in a moment." if new else "It had told that before.")
