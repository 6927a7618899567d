"""Orders a second from placed to confirmed, with everything on one machine: servers, workers, and who places them.

    python -m benchmarks.fulfilment [--orders 3000] [--lines 3] [--rounds 3]

Each order goes the whole way: payment by the simulated gateway, reservation of stock, shipment by the simulated
carrier, confirmation, all read models. The figure is the number of orders over the time from the first that was
placed to the last that was confirmed, as the log has recorded them. The processor time is that of all processes, their
start and the listing of stock included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.sides import prepare_waybill

ARTICLES = 200
PLENTY = 100_000_000


def place(orders: int, lines: int) -> None:
    """List stock, place the orders, wait until the last has ended, and print the figures as JSON."""
    prepare_waybill()
    from uuid_utils.compat import uuid7

    from eventing.handlers import dispatch, dispatch_all
    from eventing.money import Money
    from inventory.commands import ListStockItem, ReceiveStock
    from orders.commands import PlaceOrder
    from orders.events import Line
    from orders.models import OrderSummary

    price = Money(minor=255, currency="GBP")
    for article in range(ARTICLES):
        sku = f"SKU-{article}"
        dispatch_all(
            [
                ListStockItem(sku=sku, description="An article", list_price=price),
                ReceiveStock(sku=sku, quantity=PLENTY, reference="benchmark"),
            ]
        )
    time.sleep(2)  # until nothing is left to do but what is measured
    started = time.monotonic()
    for number in range(orders):
        dispatch(
            PlaceOrder(
                order_id=uuid7(),
                customer_id=uuid7(),
                lines=tuple(
                    Line(
                        sku=f"SKU-{(number * 7 + line * 31) % ARTICLES}",
                        description="An article",
                        quantity=1 + line,
                        unit_price=price,
                    )
                    for line in range(lines)
                ),
            )
        )
    placing = time.monotonic() - started
    while OrderSummary.objects.filter(status="confirmed").count() < orders:
        time.sleep(0.2)
    print(json.dumps({"placing_per_second": orders / placing, **_pace()}), flush=True)


def _pace() -> dict[str, float]:
    from eventing.statements import run

    ((rate, p50, p99),) = run(
        """
        SELECT count(*) / extract(epoch FROM max(confirmed_recorded_at) - min(placed_recorded_at)),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM confirmed_recorded_at - placed_recorded_at)),
            percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM confirmed_recorded_at - placed_recorded_at))
        FROM orders_ordersummary
        """
    )
    return {"orders_per_second": float(rate), "p50_seconds": float(p50), "p99_seconds": float(p99)}


def measure(orders: int, lines: int) -> dict[str, Any]:
    """One round on fresh servers, with the disk's guarantees on."""
    from config.stack import Stack

    state = Path(tempfile.mkdtemp(prefix="waybill-benchmark-"))
    state.chmod(0o711)  # PostgreSQL runs under another account when this one is root
    command = [sys.executable, "-m", "benchmarks.fulfilment", "--place", f"--orders={orders}", f"--lines={lines}"]
    before = _cpu_seconds()
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    try:
        with Stack(state, members=("eventing", "effects", "beat"), environ=environ) as stack:
            done = subprocess.run(command, env=stack.environ, stdout=subprocess.PIPE, check=True, text=True)
    finally:
        shutil.rmtree(state, ignore_errors=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "cpu_ms_per_order": (_cpu_seconds() - before) * 1000 / orders}


def _cpu_seconds() -> float:
    """What all processes that were started here and have ended have used, servers included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure the rounds and print their medians as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=3000)
    parser.add_argument("--lines", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.place:
        place(arguments.orders, arguments.lines)
        return
    rounds = [measure(arguments.orders, arguments.lines) for _ in range(arguments.rounds)]
    for each in rounds:
        print({name: round(value, 2) for name, value in each.items()}, file=sys.stderr)
    medians = {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}
    print(json.dumps({"orders": arguments.orders, "lines": arguments.lines, **medians}))


if __name__ == "__main__":
    main()
