"""Appends a second, Waybill against eventsourcing in its safe default mode, on the same server and in one run.

    python -m benchmarks.appending [--rounds 5] [--seconds 3]

Each writer is a process with a connection of its own. Waybill's relay runs beside its writers, so that what is counted
is also given its place in the log. Sides alternate, so that a machine that slows down slows both; the ratio is the
median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from benchmarks.sides import prepare_eventsourcing, prepare_waybill, servers

SIDES = ("waybill", "eventsourcing")


def waybill(kind: str) -> Callable[[], None]:
    """One operation of Waybill's public API."""
    prepare_waybill()
    from uuid_utils.compat import uuid7

    from benchmarks.accounts import Account, Opened
    from eventing import store
    from eventing.records import Stream

    def append() -> None:
        account = uuid7()
        store.append(Stream.of(Account, account), [Opened(account_id=account, owner="Ann")], expected=0)

    streams = [uuid7() for _ in range(100)]
    turn = iter(range(10**9))

    def edit() -> None:
        with store.edit(Account, streams[next(turn) % len(streams)]) as account:
            account.pay_in(1)

    return append if kind == "append" else edit


def eventsourcing(kind: str) -> Callable[[], None]:
    """The same operation of eventsourcing's public API."""
    prepare_eventsourcing()
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    class Account(Aggregate):
        @event("Opened")
        def __init__(self, owner: str) -> None:
            self.owner, self.balance = owner, 0

        @event("PaidIn")
        def pay_in(self, amount: int) -> None:
            self.balance += amount

    application: Any = Application()

    def append() -> None:
        application.save(Account("Ann"))

    accounts = [Account("Ann") for _ in range(100)] if kind == "edit" else []
    if accounts:
        application.save(*accounts)
    turn = iter(range(10**9))

    def edit() -> None:
        account = application.repository.get(accounts[next(turn) % len(accounts)].id)
        account.pay_in(1)
        application.save(account)

    return append if kind == "append" else edit


def write(side: str, kind: str, seconds: float) -> None:
    """A writer: gets ready, waits for the start, and says how many operations a second it did."""
    operation = {"waybill": waybill, "eventsourcing": eventsourcing}[side](kind)
    for _ in range(20):
        operation()
    print("ready", flush=True)
    sys.stdin.readline()
    done, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        operation()
        done += 1
    print(done / (time.monotonic() - started), flush=True)


def measure(side: str, kind: str, writers: int, seconds: float) -> float:
    """Operations a second of so many writers at once."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.appending",
        "--writer",
        side,
        "--kind",
        kind,
        "--seconds",
        str(seconds),
    ]
    processes = [start_writer(command) for _ in range(writers)]
    with relay_beside(side):
        for process in processes:
            print(file=process.stdin, flush=True)
        return sum(float(process.communicate()[0]) for process in processes)


def start_writer(command: list[str]) -> subprocess.Popen[str]:
    """A writer that is ready; one after the other, because eventsourcing's can't make their tables at once."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout is None or process.stdout.readline() != "ready\n":
        raise SystemExit(f"{' '.join(command)} failed.")
    return process


@contextmanager
def relay_beside(side: str) -> Any:
    """Waybill's relay, as long as its writers write."""
    if side != "waybill":
        yield
        return
    relay = subprocess.Popen([sys.executable, "manage.py", "relay_outbox"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        relay.terminate()
        relay.wait()


def main() -> None:
    """Measure both sides and print the table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--writer", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["append", "edit"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        write(arguments.writer, arguments.kind, arguments.seconds)
        return
    with servers():
        report(arguments.rounds, arguments.seconds)


def report(rounds: int, seconds: float) -> None:
    """The rounds of each case, one side after the other."""
    results = []
    print(f"{'':22}{'waybill':>12}{'eventsourcing':>16}{'ratio':>8}  (median of {rounds}; a second)")
    for kind in ("append", "edit"):
        for writers in (1, 8):
            rates = [{side: measure(side, kind, writers, seconds) for side in SIDES} for _ in range(rounds)]
            ours, theirs = (statistics.median(rate[side] for rate in rates) for side in SIDES)
            ratio = statistics.median(rate["waybill"] / rate["eventsourcing"] for rate in rates)
            print(f"{kind:8}{writers:>3} writers{ours:>12,.0f}{theirs:>16,.0f}{ratio:>8.2f}", flush=True)
            results.append({"kind": kind, "writers": writers, "waybill": ours, "eventsourcing": theirs, "ratio": ratio})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
