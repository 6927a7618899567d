from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from shipping.carrier import CarrierRefused, Scan
from shipping.carrier.simulated import tell

LATEST = 3_600


class Command(BaseCommand):
    help = (
        "Let the simulated carrier tell where a parcel is, by a webhook, as a carrier does. "
        "Exit codes: 0 done, 1 there's no such parcel, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("scan", choices=[scan.value for scan in Scan])
        parser.add_argument("tracking_number")
        parser.add_argument("--times", type=int, default=1, metavar="N", help="tell it so often, as carriers do (1)")
        parser.add_argument("--after", type=float, default=0.0, metavar="SECONDS", help="tell it so late (0)")

    def handle(self, *args: Any, scan: str, tracking_number: str, times: int, after: float, **options: Any) -> None:
        if times < 1 or not 0 <= after <= LATEST:
            raise CommandError(f"It tells once or more, and within {LATEST} seconds.", returncode=2)
        time.sleep(after)
        for _ in range(times):
            try:
                new = tell(tracking_number, Scan(scan))
            except CarrierRefused as error:
                raise CommandError(str(error)) from error
            self.stdout.write("It has told; the workers hear of it in a moment." if new else "It had told that before.")
