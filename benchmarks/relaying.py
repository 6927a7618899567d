"""What the hash chain costs: the relay with it and without it, on the same server and in one run, and appends too.

    python -m benchmarks.relaying [--rounds 9] [--events 5000] [--together 100]

A round appends so many events, some of them together in one statement, then relays them all in one pass, with the
chain and without it in turn. The cost is the median of the rounds' shares of the rate that the chain takes away. Small
events have one field, large ones are orders of 20 lines. Servers run with the disk's guarantees on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.sides import prepare_waybill, servers

if TYPE_CHECKING:
    from eventing.store import Append

LINES = 20
SIDES = {"without": False, "chained": True}


class Rates(NamedTuple):
    """Events a second."""

    append: float
    relay: float


def small() -> Append:
    """A new stream with one event that says nearly nothing."""
    from uuid_utils.compat import uuid7

    from eventing.records import Stream
    from eventing.store import Append
    from orders.events import OrderConfirmed

    order = uuid7()
    return Append(Stream("order", str(order)), 0, [OrderConfirmed(order_id=order)])


def large() -> Append:
    """A new stream with one order of many lines."""
    from uuid_utils.compat import uuid7

    from eventing.money import Money
    from eventing.records import Stream
    from eventing.store import Append
    from orders.events import Line, OrderPlaced

    order, price = uuid7(), Money(minor=255, currency="GBP")
    lines = tuple(
        Line(sku=f"{number:05}A", description="WHITE HANGING HEART T-LIGHT HOLDER", quantity=6, unit_price=price)
        for number in range(LINES)
    )
    placed = OrderPlaced(
        order_id=order,
        customer_id=uuid7(),
        reference="",
        lines=lines,
        total=price * 6 * LINES,
        payment_method="tok_visa",
    )
    return Append(Stream("order", str(order)), 0, [placed])


def measure(make: Callable[[], Append], events: int, together: int, *, chained: bool) -> Rates:
    """Append and relay so many events."""
    from django.conf import settings

    from eventing import store
    from eventing.relay import relay_once

    settings.EVENTING["HASH_CHAIN"] = chained
    appends = [[make() for _ in range(together)] for _ in range(events // together)]
    begun = time.perf_counter()
    for each in appends:
        store.append_all(each)
    appended = time.perf_counter()
    moved = relay_once(limit=events)
    relayed = time.perf_counter()
    if moved is None or moved.events != events:
        raise SystemExit("Somebody else relays.")
    return Rates(events / (appended - begun), events / (relayed - appended))


def main() -> None:
    """Measure both sides and print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--together", type=int, default=100, help="events an append")
    arguments = parser.parse_args()
    with servers():
        prepare_waybill()
        from eventing import nudges

        nudges.nudge_relay = lambda: None  # nobody but the benchmark relays
        report(arguments.rounds, arguments.events, arguments.together)


def report(rounds: int, events: int, together: int) -> None:
    """The rounds of each case, one side after the other."""
    results = []
    print(f"{'':14}{'without':>12}{'chained':>12}{'cost':>8}  (median of {rounds}; events a second)")
    for make in (small, large):
        measure(make, events, together, chained=True)  # the first statements are prepared, the first pages allocated
        found = [
            {side: measure(make, events, together, chained=on) for side, on in SIDES.items()} for _ in range(rounds)
        ]
        for what in ("append", "relay"):
            without, chained = (statistics.median(getattr(each[side], what) for each in found) for side in SIDES)
            cost = statistics.median(
                1 - getattr(each["chained"], what) / getattr(each["without"], what) for each in found
            )
            print(f"{make.__name__:7}{what:7}{without:>12,.0f}{chained:>12,.0f}{cost:>8.0%}", flush=True)
            results.append(
                {"events": make.__name__, "what": what, "without": without, "chained": chained, "cost": cost}
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
