from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from eventing import context
from eventing.domain import Rejected
from eventing.handlers import dispatch, dispatch_all
from eventing.management.terminal import terminal
from eventing.money import Money
from orders.commands import ReturnItems
from orders.management import online_retail
from orders.management.credits import Credit, CreditLine, Matching, Reason
from orders.management.naming import order_of, return_of
from orders.management.online_retail import MalformedFile, RetailFile
from orders.management.waiting import ENDED, POLL_SECONDS, progress, wait_until, wait_until_shown
from orders.models import OrderSummary, ReturnedLine, Status
from shipping.commands import DeliverShipment, DispatchShipment, shipment_of

CURRENCY = "GBP"
PATIENCE_SECONDS = 30.0  # with parcels that may not leave yet: their orders were confirmed a moment ago
ARRIVED = (Status.SHIPPED, Status.DELIVERED)


class Tally(msgspec.Struct, kw_only=True):
    """Some lines, and the units and money on them; money in pence."""

    lines: int = 0
    units: int = 0
    pence: int = 0

    def add(self, line: CreditLine, units: int) -> None:
        """Count so many units of a line."""
        self.lines += 1
        self.units += units
        self.pence += line.pence(units)


class Found(msgspec.Struct, kw_only=True):
    """Credited lines of which all, some or no units are in an earlier sale of the file, whether it's an order or not;
    and the credit invoices that are found wholly, or not at all."""

    full: int = 0
    partly: int = 0
    none: int = 0
    units: int = 0
    pence: int = 0
    credits_full: int = 0
    credits_none: int = 0


class Unmatched(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a credited line that don't come back, and why."""

    credit: str
    sku: str
    units: int
    unit_price: str
    reason: str


class Returned(msgspec.Struct, kw_only=True):
    """What became of a file's credit invoices. A return is what one of them brings back to one order; ``registered``
    are the credit invoices whose returns were made now."""

    file: str
    dry_run: bool
    credits: int = 0
    asked: Tally = msgspec.field(default_factory=Tally)
    found: Found = msgspec.field(default_factory=Found)
    returned: Tally = msgspec.field(default_factory=Tally)
    returns: int = 0
    orders: int = 0
    registered: int = 0
    already_there: int = 0
    delivered: int = 0
    rejected: dict[str, str] = {}
    unmatched: dict[str, Tally] = {}
    unmatched_lines: list[Unmatched] = []
    seconds: float = 0.0


class Command(BaseCommand):
    help = (
        "Turn the credit invoices of UCI Online Retail's CSV into returns of the orders that import_orders made of it. "
        "Each is matched to its customer's latest order that still holds those units at that price; the parcels of "
        "these orders are dispatched and delivered first. What can't be matched is reported with its reason. The "
        "workers have to be running. It can be interrupted and run again: nothing comes back twice. A malformed file "
        "is refused before anything is done. Exit codes: 0 done, 1 failure or a return was rejected, 2 usage, "
        "130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE.csv[.gz]")
        parser.add_argument(
            "--dry-run", action="store_true", help="only match the file and report what would come back"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, file: Path, dry_run: bool, json: bool, **options: Any) -> None:
        try:
            result = self._import(online_retail.examine(file), dry_run=dry_run)
        except MalformedFile as error:
            raise CommandError(f"{error} Nothing was returned.") from error
        except KeyboardInterrupt:
            self.stderr.write("\nInterrupted. Run the same command again: it goes on where it stopped.")
            sys.exit(130)
        if json:
            self.stdout.write(msgspec.json.encode(result).decode())
        else:
            show(result)
        if result.rejected:
            sys.exit(1)

    def _import(self, retail: RetailFile, *, dry_run: bool) -> Returned:
        started = time.monotonic()
        orders = [order_of(invoice.number) for invoice in retail.invoices() if invoice.customer and invoice.sales]
        if not dry_run:
            wait_until_shown()
            wait_until(ENDED, _states(orders), "Ended")
        matching = Matching(retail, _states(orders), ReturnedLine.objects.filter(order_id__in=orders))
        credits = list(matching.credits())
        result = Returned(file=str(retail.path), dry_run=dry_run, credits=len(credits))
        if not dry_run:
            new = [credit for credit in credits if credit.returns and not credit.registered]
            self._deliver(new, matching, result)
            self._register(new, result)
            result.seconds = round(time.monotonic() - started, 3)
        _count(credits, result)
        return result

    def _deliver(self, credits: Sequence[Credit], matching: Matching, result: Returned) -> None:
        """Goods that come back have arrived before: see to it, for the orders of which that isn't known."""
        came_back: dict[UUID, datetime] = {}
        for credit in credits:
            for order_id in credit.returns:
                if matching.states[order_id] is not Status.DELIVERED:
                    came_back.setdefault(order_id, credit.occurred_at)
        waiting, until = came_back.copy(), time.monotonic() + PATIENCE_SECONDS
        with progress(len(waiting), "Parcels") as bar:
            while waiting and time.monotonic() < until:
                for order_id, returned_at in list(waiting.items()):
                    if _has_arrived(order_id, matching.placed_at[order_id], returned_at):
                        del waiting[order_id]
                        until = time.monotonic() + PATIENCE_SECONDS
                        bar.update(bar.tasks[0].id, advance=1)
                if waiting:
                    time.sleep(POLL_SECONDS)
        result.delivered = len(came_back) - len(waiting)
        wait_until(ARRIVED, came_back.keys() - waiting.keys(), "Arrived")

    def _register(self, credits: Sequence[Credit], result: Returned) -> None:
        """All returns of a credit invoice, or none where one is refused."""
        with progress(len(credits), "Returns") as bar:
            for credit in credits:
                try:
                    with context.acting(actor="import_returns", occurred_at=credit.occurred_at):
                        dispatch_all(_returns(credit))
                    result.registered += 1
                except Rejected as rejection:
                    result.rejected[credit.number] = str(rejection)
                    for line in credit.lines:
                        line.refuse()
                bar.update(bar.tasks[0].id, advance=1)


def _states(orders: Sequence[UUID]) -> dict[UUID, Status]:
    """Of those that are there."""
    found = OrderSummary.objects.filter(pk__in=orders).order_by().values_list("order_id", "status")
    return {order_id: Status(status) for order_id, status in found}


def _has_arrived(order_id: UUID, placed_at: datetime, returned_at: datetime) -> bool:
    """Say that a parcel left, and arrived, some time between order and return. Whether that could be said."""
    third = (returned_at - placed_at) / 3
    shipment_id = shipment_of(order_id)
    try:
        for happened_at, command in (
            (placed_at + third, DispatchShipment(shipment_id=shipment_id)),
            (placed_at + 2 * third, DeliverShipment(shipment_id=shipment_id)),
        ):
            with context.acting(actor="import_returns", occurred_at=happened_at):
                dispatch(command)
    except Rejected:
        return False
    return True


def _returns(credit: Credit) -> list[ReturnItems]:
    return [
        ReturnItems(
            order_id=order_id,
            return_id=return_of(credit.number),
            lines=lines,
            reason=f"Credit invoice {credit.number}",
        )
        for order_id, lines in credit.returns.items()
    ]


def _count(credits: Sequence[Credit], result: Returned) -> None:
    unmatched = {reason: Tally() for reason in Reason}
    for credit in credits:
        for line in credit.lines:
            result.asked.add(line, line.quantity)
            if line.returned:
                result.returned.add(line, line.returned)
            for reason, units in line.missing.items():
                unmatched[reason].add(line, units)
                result.unmatched_lines.append(_unmatched(credit, line, reason, units))
        _count_found(credit, result.found)
        result.returns += len(credit.returns)
        result.already_there += credit.registered
    result.orders = len({order_id for credit in credits for order_id in credit.returns})
    result.unmatched = {reason.value: tally for reason, tally in unmatched.items() if tally.lines}


def _unmatched(credit: Credit, line: CreditLine, reason: Reason, units: int) -> Unmatched:
    return Unmatched(
        credit=credit.number, sku=line.sku, units=units, unit_price=str(line.unit_price), reason=reason.value
    )


def _count_found(credit: Credit, found: Found) -> None:
    for line in credit.lines:
        found.full += line.found == line.quantity
        found.partly += 0 < line.found < line.quantity
        found.none += line.found == 0
        found.units += line.found
        found.pence += line.pence(line.found)
    found.credits_full += all(line.found == line.quantity for line in credit.lines)
    found.credits_none += not any(line.found for line in credit.lines)


WHY: Mapping[str, str] = {
    Reason.NO_CUSTOMER: "the credit has no customer",
    Reason.NO_GOODS: "postage, a discount, a fee: no goods",
    Reason.COST_NOTHING: "it cost nothing, and is in no order",
    Reason.NEVER_SOLD: "no earlier sale of it to this customer",
    Reason.OTHER_PRICE: "sold to this customer at other prices only",
    Reason.MORE_THAN_SOLD: "more than this customer was sold",
    Reason.RETURNED_BEFORE: "came back already",
    Reason.ORDER_CANCELLED: "the order was cancelled",
    Reason.NOT_IMPORTED: "the order wasn't imported",
    Reason.REFUSED: "it was refused, as said above",
}


def show(result: Returned) -> None:
    """Print what came back for a person."""
    console = terminal(width=80)
    console.print(
        f"{result.credits:,} credit invoices in {result.file}: {_told(result.asked)}.\n"
        f"{_told(result.returned)} {'would come' if result.dry_run else 'came'} back in {result.returns:,} returns of "
        f"{result.orders:,} orders."
    )
    if not result.dry_run:
        console.print(
            f"{result.registered:,} credit invoices were registered in {result.seconds:.1f} s, "
            f"{result.already_there:,} were already; {result.delivered:,} parcels were dispatched and delivered for it."
        )
    for number, reason in result.rejected.items():
        console.print(f"Credit invoice {number} was rejected: {reason}")
    table = Table("Doesn't come back, because", "Lines", "Units", "Amount")
    for reason, tally in result.unmatched.items():
        amount = Money(minor=tally.pence, currency=CURRENCY)
        table.add_row(WHY[reason], f"{tally.lines:,}", f"{tally.units:,}", str(amount))
    console.print(table)
    if result.unmatched:
        console.print("--json lists them.")


def _told(tally: Tally) -> str:
    return f"{tally.lines:,} lines, {tally.units:,} units, {Money(minor=tally.pence, currency=CURRENCY)}"
