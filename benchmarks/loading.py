"""Loads a stock item by itself: one of 10 events, and hot ones of 10,000, with and without their snapshots.

    python -m benchmarks.loading [--rounds 7] [--loads 200]

What the process remembers of long streams is forgotten before each load, as in a process that has just started. The
hot items: one whose snapshot is of its last event, one whose next snapshot is an event away, one that has received a
hundred deliveries with a reference, and one whose every event is such a delivery; its state has each of the references.
Sides take turns, so that a machine that slows down slows all; each figure is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from benchmarks.sides import prepare_waybill, servers

if TYPE_CHECKING:
    from eventing.records import Stream

EVENTS = 10_000
ORDER = UUID(int=1)
TEN, JUST_TAKEN, NEARLY_DUE, DELIVERED = "10 events", "10,000", "10,000 + 99", "10,000, 100 deliveries"
ALL_DELIVERIES, NO_SNAPSHOT = "10,000 deliveries", "10,000, no snapshot"
SIDES = {TEN: (10, 0), JUST_TAKEN: (EVENTS, 0), NEARLY_DUE: (EVENTS, 0), DELIVERED: (EVENTS, 100)}
SIDES |= {ALL_DELIVERIES: (EVENTS, EVENTS), NO_SNAPSHOT: (EVENTS, 0)}


def fill() -> None:
    """Write the streams, and take the snapshots that workers would have taken."""
    from eventing import snapshots
    from inventory.aggregates import StockItem

    for side, (count, deliveries) in SIDES.items():
        _append(side, count, deliveries)
        if side not in (TEN, NO_SNAPSHOT):
            snapshots.take(_stream(side))
    _append(NEARLY_DUE, StockItem.snapshot_every - 1, 0)


def load(side: str) -> float:
    """Seconds that it takes to load an item."""
    from eventing import recent, store
    from inventory.aggregates import StockItem

    recent.forget()
    started = time.perf_counter()
    store.load(StockItem, side)
    return time.perf_counter() - started


def measure(sides: Sequence[str], loads: int) -> dict[str, float]:
    """Milliseconds a load, of each side: the median of so many, taken in turns."""
    seconds = [[load(side) for side in sides] for _ in range(loads)]
    return {side: 1000 * statistics.median(of) for side, of in zip(sides, zip(*seconds, strict=True), strict=True)}


def main() -> None:
    """Fill the store, load in turns, and print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--loads", type=int, default=200)
    arguments = parser.parse_args()
    with servers():
        prepare_waybill()
        fill()
        quick = [side for side in SIDES if side != NO_SNAPSHOT]
        rounds = [measure(quick, arguments.loads) | measure([NO_SNAPSHOT], 3) for _ in range(arguments.rounds)]
    medians = {side: statistics.median(each[side] for each in rounds) for side in SIDES}
    ratios = {side: statistics.median(each[side] / each[TEN] for each in rounds) for side in SIDES}
    print(f"{'':24}{'ms a load':>12}{'times':>8}  (median of {arguments.rounds})")
    for side in SIDES:
        print(f"{side:24}{medians[side]:>12.2f}{ratios[side]:>8.2f}")
    print(json.dumps({"milliseconds": medians, "ratio": ratios}))


def _append(sku: str, count: int, deliveries: int) -> None:
    """Append so many events of an item, as many of them deliveries, the others reservations and shipments."""
    from eventing import store
    from inventory.events import StockReceived, StockReserved, StockShipped

    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        events = [
            StockReceived(sku=sku, quantity=1, reference=f"DELIVERY-{number:06}")
            if number < deliveries
            else (StockReserved, StockShipped)[number % 2](sku=sku, order_id=ORDER, quantity=1)
            for number in numbers
        ]
        store.append(_stream(sku), events, expected=store.version(_stream(sku)))


def _stream(sku: str) -> Stream:
    from eventing.records import Stream

    return Stream("stock", sku)


if __name__ == "__main__":
    main()
