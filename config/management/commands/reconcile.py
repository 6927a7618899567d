from __future__ import annotations

import sys
import time
from itertools import chain
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandParser

from config.reconciliation import Finding, reconcile, replayed_equal
from eventing.status import status

POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = (
        "Check that the log is whole and that orders, gateway, stock and carrier agree. It's exact once all work is "
        "done. Exit codes: 0 all agree, 1 something doesn't, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--replay", action="store_true", help="also rebuild every read model beside the live one, and compare"
        )
        parser.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="first wait this long for all work to be done"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, replay: bool, wait: float, json: bool, **options: Any) -> None:
        until = time.monotonic() + wait
        while time.monotonic() < until and not status().at_rest:
            time.sleep(POLL_SECONDS)
        findings: list[Finding] = []
        for finding in chain(reconcile(), replayed_equal() if replay else ()):
            findings.append(finding)
            if not json:
                self.stdout.write(_line(finding))
        if json:
            self.stdout.write(msgspec.json.encode(findings).decode())
        if any(finding.wrong for finding in findings):
            sys.exit(1)


def _line(finding: Finding) -> str:
    if not finding.wrong:
        return f"yes  {finding.question}"
    return "\n".join([f"NO   {finding.question}: {finding.wrong}", *(f"       {each}" for each in finding.examples)])
