"""Requests a second, and how long they take: orders placed and read over HTTP with the server that production runs.

    python -m benchmarks.serving [--seconds 10] [--connections 8] [--processes 2] [--rounds 3]

The client is on the same machine, and takes its part of the processors; it's as thin as can be: one process that keeps
its connections and looks at nothing but the status. `placing` has the web processes and PostgreSQL to itself;
`placing, workers` has the workers that fulfil the orders beside it. `reading` reads one order of three lines at a time,
`not modified` the same with `If-None-Match`, `stream` its events instead of the read model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ARTICLES = 20
ORDERS = 200  # that are read


class Client:
    """Connections that send one request after the other, and how long each took."""

    def __init__(self, address: str, token: str) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self._head = f"Host: {self._host}\r\nAuthorization: Bearer {token}\r\n"

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """A request as it's sent."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        if body:
            more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{method} /api/v1/{path} HTTP/1.1\r\n{self._head}{more}\r\n".encode() + body

    async def send(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        return int(head[9:12]), await reader.readexactly(int(length.partition(b":")[2]))

    async def measure(self, make: Callable[[], bytes], *, seconds: float, connections: int, wanted: int) -> list[float]:
        """Send what is made, on all connections, for so many seconds."""
        until = time.monotonic() + seconds
        took: list[float] = []

        async def keep_asking() -> None:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            while (started := time.monotonic()) < until:
                status, body = await self.send(make(), reader, writer)
                if status != wanted:
                    raise RuntimeError(f"Answered {status}: {body[:500]!r}")
                took.append(time.monotonic() - started)
            writer.close()

        await asyncio.gather(*(keep_asking() for _ in range(connections)))
        return took


def ask(address: str, token: str, what: str, seconds: float, connections: int) -> None:
    """Measure one kind of request, and print the figures as JSON."""
    client = Client(address, token)
    lines = [{"sku": f"SKU-{number}", "quantity": 1 + number} for number in range(3)]
    order = json.dumps({"lines": lines}).encode()
    numbers = iter(range(10**9))

    def place() -> bytes:
        return client.request("POST", "orders", order, Idempotency_Key=str(uuid.uuid4()))

    def read(**headers: str) -> bytes:
        return client.request("GET", f"orders/{uuid.UUID(int=1 + next(numbers) % ORDERS)}", b"", **headers)

    make, wanted = {
        "placing": (place, 201),
        "reading": (read, 200),
        "not modified": (lambda: read(If_None_Match="*"), 304),
        "stream": (lambda: client.request("GET", f"orders/{uuid.UUID(int=1)}?source=stream"), 200),
    }[what]
    started = time.monotonic()
    took = asyncio.run(client.measure(make, seconds=seconds, connections=connections, wanted=wanted))
    spent = time.monotonic() - started
    cuts = statistics.quantiles(took, n=100)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "per_second": len(took) / spent,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
        "client_ms": (used.ru_utime + used.ru_stime) * 1000 / len(took),
    }
    print(json.dumps(figures))


def prepare(stack: Any) -> str:
    """Articles, and orders to be read. Returns a token."""
    script = f"""
from uuid import UUID
from django.contrib.auth.models import User
from eventing.handlers import dispatch
from eventing.money import Money
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from orders.events import Line
User.objects.create_superuser("benchmark")
price = Money(minor=255, currency="GBP")
for number in range({ARTICLES}):
    dispatch(ListStockItem(sku=f"SKU-{{number}}", description="An article", list_price=price))
    dispatch(ReceiveStock(sku=f"SKU-{{number}}", quantity=100_000_000))
for number in range({ORDERS}):
    lines = tuple(Line(sku=f"SKU-{{n}}", description="An article", quantity=1, unit_price=price) for n in range(3))
    dispatch(PlaceOrder(order_id=UUID(int=1 + number), customer_id=None, lines=lines))
"""
    stack.manage("shell", "--no-imports", "-c", script, quiet=True)
    token: str = json.loads(stack.manage("create_api_token", "benchmark", "--json", quiet=True).stdout)["token"]
    deadline = time.monotonic() + 120
    while not _is_at_rest(json.loads(stack.manage("eventing_status", "--json", quiet=True).stdout)):
        if time.monotonic() > deadline:
            raise RuntimeError("The workers didn't come to rest.")
        time.sleep(0.5)
    return token


def _is_at_rest(status: dict[str, Any]) -> bool:
    return not status["outbox"]["backlog"] and not any(
        each["lag"] or each["waiting"] for each in status["subscriptions"]
    )


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One round on fresh servers, with the disk's guarantees on."""
    from config.stack import MEMBERS, Stack

    state = Path(tempfile.mkdtemp(prefix="waybill-benchmark-"))
    state.chmod(0o711)  # PostgreSQL runs under another account when this one is root
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environ |= {"WEB_CONCURRENCY": str(arguments.processes), "API_RATE": "100000000", "LOG_LEVEL": "WARNING"}
    figures: dict[str, dict[str, float]] = {}
    try:
        with Stack(state, members=MEMBERS, environ=environ) as stack:
            token = prepare(stack)

            def run(what: str) -> dict[str, float]:
                command = [sys.executable, "-m", "benchmarks.serving", "--ask", what, stack.address, token]
                command += [f"--seconds={arguments.seconds}", f"--connections={arguments.connections}"]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                result: dict[str, float] = json.loads(done.stdout)
                return result

            for what in ("reading", "not modified", "stream"):
                figures[what] = run(what)
            figures["placing, workers"] = run("placing")
            stack.processes.stop("beat")
            stack.processes.stop("eventing", "effects")
            figures["placing"] = run("placing")
    finally:
        shutil.rmtree(state, ignore_errors=True)
    return figures


def main() -> None:
    """Measure the rounds and print their medians as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2, help="web processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ask", nargs=3, metavar=("WHAT", "ADDRESS", "TOKEN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        what, address, token = arguments.ask
        ask(address, token, what, arguments.seconds, arguments.connections)
        return
    rounds = [measure(arguments) for _ in range(arguments.rounds)]
    for what in rounds[0]:
        medians = {name: round(statistics.median(each[what][name] for each in rounds), 2) for name in rounds[0][what]}
        print(json.dumps({"what": what, **medians}))


if __name__ == "__main__":
    main()
