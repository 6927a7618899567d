"""Rebuilds order summaries from the log: Waybill's replay against eventsourcing's projection runner.

    python -m benchmarks.rebuilding [--orders 10000] [--rounds 3]

Both sides have the same events, two an order, on the same server, and the same table to fill: a row an order with its
customer, total and status. eventsourcing runs its own ProjectionRunner over its own PostgreSQL tracking recorder, which
writes the row and the position of each event in one transaction, as its documentation has it. Waybill runs
`replay_projection`. The ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.sides import prepare_eventsourcing, prepare_waybill, servers

SIDES = ("waybill", "eventsourcing")
EVENTS_AN_ORDER = 2


def fill_waybill(orders: int) -> None:
    """Place and confirm orders in Waybill's log."""
    prepare_waybill()
    from uuid_utils.compat import uuid7

    from eventing import store
    from eventing.money import Money
    from eventing.records import Stream
    from eventing.relay import relay_all
    from eventing.store import Append
    from orders.events import Line, OrderConfirmed, OrderPlaced

    price = Money(minor=255, currency="GBP")
    line = Line(sku="HEART", description="Heart", quantity=2, unit_price=price)
    for start in range(0, orders, 500):
        appends = []
        for _ in range(start, min(start + 500, orders)):
            order = uuid7()
            placed = OrderPlaced(
                order_id=order,
                customer_id=uuid7(),
                reference="",
                lines=(line,),
                total=price * 2,
                payment_method="tok_visa",
            )
            appends.append(Append(Stream("order", str(order)), 0, [placed, OrderConfirmed(order_id=order)]))
        store.append_all(appends)
    sum(relay_all())


def rebuild_waybill() -> float:
    """Events a second of one replay."""
    prepare_waybill()
    from eventing import checkpoints
    from eventing.replay import projection_named, replay
    from orders.models import OrderSummary

    projection = projection_named("orders.OrderSummaries")
    started = time.monotonic()
    for _ in replay(projection):
        pass
    seconds = time.monotonic() - started
    if OrderSummary.objects.filter(status="confirmed").count() * EVENTS_AN_ORDER != checkpoints.head():
        raise SystemExit("The rebuilt read model isn't whole.")
    return checkpoints.head() / seconds


def application() -> Any:
    """eventsourcing's side: an application whose aggregate is an order."""
    prepare_eventsourcing()
    from benchmarks.rival import Orders

    return Orders()


def fill_eventsourcing(orders: int) -> None:
    """Place and confirm orders in eventsourcing's store."""
    from benchmarks.rival import Order

    orders_application = application()
    for start in range(0, orders, 500):
        placed = [Order(customer="Ann", total=510) for _ in range(start, min(start + 500, orders))]
        for order in placed:
            order.confirm()
        orders_application.save(*placed)


def rebuild_eventsourcing(orders: int) -> float:
    """Events a second of one run of the projection runner, from the first event to the last."""
    prepare_eventsourcing()
    from benchmarks.rival import rebuild

    return rebuild(orders * EVENTS_AN_ORDER)


def measure(side: str, orders: int) -> float:
    """A rebuild in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rebuilding", "--side", side, "--orders", str(orders)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Fill both stores, rebuild in turn, and print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        rate = rebuild_waybill() if arguments.side == "waybill" else rebuild_eventsourcing(arguments.orders)
        print(rate)
        return
    with servers():
        os.environ["LOG_LEVEL"] = "ERROR"
        fill_waybill(arguments.orders)
        fill_eventsourcing(arguments.orders)
        rates = [{side: measure(side, arguments.orders) for side in SIDES} for _ in range(arguments.rounds)]
    medians = {side: round(statistics.median(rate[side] for rate in rates)) for side in SIDES}
    ratio = round(statistics.median(rate["waybill"] / rate["eventsourcing"] for rate in rates), 2)
    print(f"rebuild  {medians['waybill']:,} events/s against {medians['eventsourcing']:,}: {ratio} times")
    print(json.dumps({"orders": arguments.orders, **medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
