from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from config.embedded.state import State
from config.management.commands.run import SAMPLE
from config.stack import Stack


class Command(BaseCommand):
    help = (
        "Bring all of Waybill up on fresh servers, import the sample orders, wait until every order has ended, take "
        "back what was returned, check that the books agree and that replayed read models equal the live ones, print "
        "the result, and stop. Exit codes: 0 all is well, 1 something isn't, 2 usage, 130 interrupted."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        state = Path(tempfile.mkdtemp(prefix="waybill-demo-"))
        state.chmod(0o711)  # PostgreSQL runs under another account when this one is root
        stack = Stack(state, port=State(state).port())
        stack.obey_signals()
        try:
            with stack:
                self.stderr.write(f"Waybill runs at {stack.address}; importing the sample.")
                imported = _json(stack, "import_orders", str(SAMPLE), "--wait", "--json")
                returned = _json(stack, "import_returns", str(SAMPLE), "--json")
                findings = _json(stack, "reconcile", "--wait", "30", "--replay", "--json")
                status = _json(stack, "eventing_status", "--json")
        except (OSError, RuntimeError) as error:
            raise CommandError(str(error)) from error
        finally:
            shutil.rmtree(state, ignore_errors=True)
        result = {
            "orders": imported["states"],
            "events": status["head"] + status["outbox"]["backlog"],
            "positions": status["head"],
            **imported["pace"],
            "returns": returned["returns"],
            "returned_units": returned["returned"]["units"],
            "refunded_pence": returned["returned"]["pence"],
            "wrong": [finding["question"] for finding in findings if finding["wrong"]],
        }
        show(result, checks=len(findings))
        self.stdout.write(json.dumps(result))
        if result["wrong"] or imported["rejected"] or returned["rejected"]:
            sys.exit(1)


def show(result: dict[str, Any], *, checks: int) -> None:
    """Print the result for a person."""
    table = Table(show_header=False)
    for status, count in sorted(result["orders"].items()):
        table.add_row(f"Orders {status}", f"{count:,}")
    table.add_row("Events", f"{result['events']:,}")
    table.add_row("Positions", f"{result['positions']:,}")
    table.add_row("Orders a second", f"{result['orders_per_second']:,.1f}")
    table.add_row("Placed to confirmed, p50", f"{result['p50_seconds']:.2f} s")
    table.add_row("Placed to confirmed, p99", f"{result['p99_seconds']:.2f} s")
    table.add_row("Returns", f"{result['returns']:,}, of {result['returned_units']:,} units")
    table.add_row("Refunded", f"{result['refunded_pence']:,} pence")
    table.add_row("Checks that hold", f"{checks - len(result['wrong'])} of {checks}")
    for question in result["wrong"]:
        table.add_row("Doesn't hold", question)
    Console().print(table)


def _json(stack: Stack, *command: str) -> Any:
    done = stack.manage(*command, quiet=True)
    if not done.stdout:
        raise CommandError(f"`manage.py {' '.join(command)}` failed: {done.stderr}")
    return json.loads(done.stdout)
