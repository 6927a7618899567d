"""Rebuilds order summaries from the log: Waybill's replay against eventsourcing's projection runner.

    python -m benchmarks.rebuilding [--orders 10000] [--rounds 3] [--only waybill]

Both sides have the same events, two an order, on the same server, and the same table to fill: a row an order with its
customer, total and status. eventsourcing runs its own ProjectionRunner over its own PostgreSQL tracking recorder, which
writes the row and the position of each event in one transaction, as its documentation has it. Waybill does what
`replay_projection` does: it builds beside a live read model that is up to date, compares the two, and exchanges them.
The ratio is the median of the rounds' ratios. Memory is the most that the rebuilding process ever held.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

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
    from eventing.replay import comparison_of, projection_named, rebuild
    from orders.models import OrderSummary

    projection = projection_named("orders.OrderSummaries")
    started = time.monotonic()
    replay = rebuild(projection)
    seconds = time.monotonic() - started
    comparison = comparison_of(replay)
    if comparison is None or (comparison.live_rows and not comparison.same):
        raise SystemExit("The rebuilt read model isn't what the live one was.")
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


class Measured(NamedTuple):
    """Events a second, and the peak of memory in MiB."""

    rate: float
    memory: float


def measure(side: str, orders: int) -> Measured:
    """A rebuild in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rebuilding", "--side", side, "--orders", str(orders)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(*map(float, done.stdout.splitlines()[-1].split()))


def main() -> None:
    """Fill both stores, rebuild in turn, and print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SIDES, help="measure one side, such as with very many orders")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        rate = rebuild_waybill() if arguments.side == "waybill" else rebuild_eventsourcing(arguments.orders)
        print(rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    sides = [arguments.only] if arguments.only else SIDES
    with servers():
        os.environ["LOG_LEVEL"] = "ERROR"
        fill_waybill(arguments.orders)
        measure("waybill", arguments.orders)  # the first one makes the live read model
        if "eventsourcing" in sides:
            fill_eventsourcing(arguments.orders)
        rounds = [{side: measure(side, arguments.orders) for side in sides} for _ in range(arguments.rounds)]
    found: dict[str, float] = {"orders": arguments.orders}
    for side in sides:
        found[side] = round(statistics.median(each[side].rate for each in rounds))
        found[f"{side}_mib"] = round(max(each[side].memory for each in rounds))
        print(f"rebuild  {side}: {found[side]:,} events/s, {found[f'{side}_mib']:,} MiB")
    if len(sides) == len(SIDES):
        found["ratio"] = round(
            statistics.median(each["waybill"].rate / each["eventsourcing"].rate for each in rounds), 2
        )
        print(f"         {found['ratio']} times as many events a second")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
