from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import file_digest
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from eventing import context, store
from eventing.domain import Command as DomainCommand
from eventing.domain import Rejected
from eventing.handlers import dispatch, dispatch_all
from eventing.management.terminal import terminal
from eventing.money import Money
from eventing.records import Stream
from eventing.statements import run
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder
from orders.events import Line
from orders.management import online_retail
from orders.management.naming import customer_of, order_of
from orders.management.online_retail import Invoice, MalformedFile, RetailFile
from orders.management.waiting import ENDED, progress, wait_until

CURRENCY = "GBP"
STOCK_CHUNK = 200


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a class, and the money and units on them; money in pence."""

    lines: int
    units: int
    pence: int
    invoices: int


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the confirmed orders among the imported ones went through: seconds from placed to confirmed, and
    orders a second from the first that was placed to the last that was confirmed."""

    confirmed: int
    p50_seconds: float
    p99_seconds: float
    orders_per_second: float


class Imported(msgspec.Struct, kw_only=True):
    """What an import did. Units and pence are of the orders in the file, whether placed now or before."""

    file: str
    dry_run: bool
    orders: int
    lines: int = 0
    units: int = 0
    pence: int = 0
    placed: int = 0
    already_there: int = 0
    rejected: dict[str, str] = {}
    stock_items: int = 0
    set_aside: dict[str, SetAside] = {}
    seconds: float = 0.0
    orders_per_second: float = 0.0
    states: dict[str, int] = {}
    pace: Pace | None = None


class Command(BaseCommand):
    help = (
        "Import orders from UCI Online Retail's CSV, plain or gzipped. Every product is listed and its stock "
        "received; every invoice's product sales become one order. Lines of other kinds are set aside and reported. "
        "It can be interrupted and run again: what is there already isn't imported twice. A malformed file is refused "
        "before anything is imported. Exit codes: 0 imported, 1 failure or an order was rejected, 2 usage, "
        "130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.csv[.gz]")
        parser.add_argument("--limit", type=_natural, metavar="N", help="only the first N orders")
        parser.add_argument("--dry-run", action="store_true", help="only read the file and report what is in it")
        parser.add_argument("--wait", action="store_true", help="wait until every imported order has ended")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, file: Path, limit: int | None, **options: Any) -> None:
        try:
            retail = online_retail.examine(file)
            result = self._import(retail, limit, dry_run=options["dry_run"])
            if options["wait"] and not options["dry_run"]:
                orders = [
                    order_of(invoice.number)
                    for invoice in _sales(retail, limit)
                    if invoice.number not in result.rejected
                ]
                result.states, result.pace = wait_until(ENDED, orders, "Ended"), _pace(orders)
        except MalformedFile as error:
            raise CommandError(f"{error} Nothing was imported.") from error
        except KeyboardInterrupt:
            self.stderr.write("\nInterrupted. Run the same command again: it goes on where it stopped.")
            sys.exit(130)
        if options["json"]:
            self.stdout.write(msgspec.json.encode(result).decode())
        else:
            show(result)
        if result.rejected:
            sys.exit(1)

    def _import(self, retail: RetailFile, limit: int | None, *, dry_run: bool) -> Imported:
        result = _read(retail, limit, dry_run=dry_run)
        if dry_run:
            return result
        with context.acting(actor="import_orders"):
            self._receive_stock(retail, limit, result)
        started = time.monotonic()
        with progress(result.orders, "Orders") as bar:
            task = bar.tasks[0].id
            for invoice in _sales(retail, limit):
                self._place(invoice, result)
                bar.update(task, advance=1, rate=result.placed / (time.monotonic() - started))
        result.seconds = round(time.monotonic() - started, 3)
        result.orders_per_second = round(result.placed / max(result.seconds, 0.001), 1)
        return result

    def _receive_stock(self, retail: RetailFile, limit: int | None, result: Imported) -> None:
        """Before any order is placed: the units that the orders which aren't there yet will need. The delivery has
        the file's name, so that it's received once however often the import is begun."""
        needed = _needed(retail, limit)
        with retail.path.open("rb") as file:
            delivery = f"import {file_digest(file, 'sha256').hexdigest()[:16]} {limit or 'all'}"
        with progress(len(retail.products), "Stock") as bar:
            task = bar.tasks[0].id
            for start in range(0, len(retail.products), STOCK_CHUNK):
                products = retail.products[start : start + STOCK_CHUNK]
                commands: list[DomainCommand] = []
                for product in products:
                    if not needed[product.sku]:
                        continue
                    price = Money.parse(str(product.unit_price), CURRENCY)
                    commands.append(ListStockItem(sku=product.sku, description=product.description, list_price=price))
                    commands.append(ReceiveStock(sku=product.sku, quantity=needed[product.sku], reference=delivery))
                if commands:
                    dispatch_all(commands)
                result.stock_items += len(commands) // 2
                bar.update(task, advance=len(products), rate=0)

    def _place(self, invoice: Invoice, result: Imported) -> None:
        if _is_there(invoice):
            result.already_there += 1
            return
        try:
            with context.acting(actor="import_orders", occurred_at=invoice.occurred_at):
                dispatch(_place_order(invoice))
            result.placed += 1
        except Rejected as rejection:
            result.rejected[invoice.number] = str(rejection)


PACE = """
SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY seconds),
    extract(epoch FROM max(confirmed_recorded_at) - min(placed_recorded_at))
FROM (
    SELECT *, extract(epoch FROM confirmed_recorded_at - placed_recorded_at) AS seconds
    FROM orders_ordersummary WHERE order_id = ANY(%(orders)s) AND confirmed_recorded_at IS NOT NULL
) confirmed
"""


def _pace(orders: list[UUID]) -> Pace | None:
    """None when no order was confirmed."""
    ((confirmed, percentiles, seconds),) = run(PACE, {"orders": orders})
    if not confirmed:
        return None
    return Pace(
        confirmed=confirmed,
        p50_seconds=round(percentiles[0], 3),
        p99_seconds=round(percentiles[1], 3),
        orders_per_second=round(confirmed / float(seconds), 1),
    )


def _read(retail: RetailFile, limit: int | None, *, dry_run: bool) -> Imported:
    """What is in the file, as far as orders go, and everything else under its class."""
    result = Imported(file=str(retail.path), dry_run=dry_run, orders=0)
    for invoice in _sales(retail, limit):
        result.orders += 1
        result.lines += len(invoice.sales)
        result.units += sum(line.quantity for line in invoice.sales)
        result.pence += sum(line.amount for line in invoice.sales)
    result.set_aside = {
        line_class.value: SetAside(lines=tally.lines, units=tally.units, pence=tally.pence, invoices=tally.invoices)
        for line_class, tally in retail.report.classes.items()
        if line_class is not online_retail.LineClass.PRODUCT_SALE
    }
    return result


def _sales(retail: RetailFile, limit: int | None) -> Iterator[Invoice]:
    """The invoices that become orders."""
    return islice((invoice for invoice in retail.invoices() if invoice.sales), limit)


def _needed(retail: RetailFile, limit: int | None) -> Counter[str]:
    """Units by SKU that the orders which aren't there yet want."""
    needed = Counter[str]()
    for invoice in _sales(retail, limit):
        if not _is_there(invoice):
            for line in invoice.sales:
                needed[line.sku] += line.quantity
    return needed


def _is_there(invoice: Invoice) -> bool:
    return store.version(Stream("order", str(order_of(invoice.number)))) > 0


def _place_order(invoice: Invoice) -> PlaceOrder:
    return PlaceOrder(
        order_id=order_of(invoice.number),
        customer_id=customer_of(invoice.customer) if invoice.customer else None,
        reference=invoice.number,
        lines=tuple(
            Line(
                sku=line.sku,
                description=line.description,
                quantity=line.quantity,
                unit_price=Money.parse(str(line.unit_price), CURRENCY),
            )
            for line in invoice.sales
        ),
    )


def _natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def show(result: Imported) -> None:
    """Print what was imported for a person."""
    console = terminal(width=80)
    console.print(
        f"{result.orders:,} orders in {result.file}: {result.lines:,} lines, {result.units:,} units, "
        f"{Money(minor=result.pence, currency=CURRENCY)}."
    )
    if not result.dry_run:
        console.print(
            f"{result.placed:,} placed in {result.seconds:.1f} s ({result.orders_per_second:,.0f} a second), "
            f"{result.already_there:,} were there already; stock of {result.stock_items:,} articles received."
        )
    for number, reason in result.rejected.items():
        console.print(f"Invoice {number} was rejected: {reason}")
    table = Table("Set aside", "Lines", "Units", "Amount", "Invoices")
    for name, tally in result.set_aside.items():
        amount = Money(minor=tally.pence, currency=CURRENCY)
        table.add_row(name, f"{tally.lines:,}", f"{tally.units:,}", str(amount), f"{tally.invoices:,}")
    console.print(table)
    for status, count in sorted(result.states.items()):
        console.print(f"{count:,} {status}")
    if result.pace:
        console.print(
            f"From placed to confirmed: half within {result.pace.p50_seconds:.2f} s, 99 % within "
            f"{result.pace.p99_seconds:.2f} s; {result.pace.orders_per_second:,.0f} orders a second."
        )
