"""UCI Online Retail as it is published: eight columns, one line a row, several rows an invoice.

A file is read twice, so that nothing is half done. ``examine`` checks and counts all of it, or refuses it and
names the line and the column. ``RetailFile.invoices`` reads it again and groups it by invoice. Neither holds
the file: memory grows with the number of invoices and SKUs, not with the number of lines.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
LONGEST_LINE = 64 * 1024
LONGEST_TEXT = 255

_LONDON = ZoneInfo("Europe/London")
_PENNY = Decimal("0.01")
_GZIP = b"\x1f\x8b"

_INVOICE = re.compile(r"[AC]?[0-9]{1,20}")
_PRODUCT = re.compile(r"[0-9]{5}[A-Za-z]{0,2}")
_QUANTITY = re.compile(r"-?[1-9][0-9]{0,6}")
_PRICE = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,3})?")
_CUSTOMER = re.compile(r"([0-9]{1,20})(?:\.0)?")
_ISO_DATE = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2}) "
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
)
_US_DATE = re.compile(
    r"(?P<month>[0-9]{1,2})/(?P<day>[0-9]{1,2})/(?P<year>[0-9]{4}) "
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
)
_UNFIT_BYTE = re.compile(rb"[\r\0]")
_UNFIT_BYTES = {
    b"\r": "a carriage return without a line feed after it; expected lines that end in LF or CRLF",
    b"\0": "a NUL byte; expected text in UTF-8 or Windows-1252",
}
_WHOLE_VALUE = re.compile(r'(?:"(?:[^"]|"")*+"|[^",][^,]*+)?,')


class MalformedFile(Exception):
    """A file that cannot be read; the message says where, what is wrong and what was expected.

    ``line`` counts physical lines from 1, as an editor does. ``line`` and ``column`` are None where the fault
    lies in no line or column.
    """

    def __init__(self, path: Path, problem: str, *, line: int | None = None, column: str | None = None) -> None:
        self.path, self.problem, self.line, self.column = path, problem, line, column
        name = str(path) if str(path).isprintable() else repr(str(path))
        where = name if line is None else f"{name}, line {line}"
        super().__init__(f"{where}: {problem}" if column is None else f"{where}, column {column}: {problem}")


class LineClass(StrEnum):
    """What a line is, in order of precedence: each line belongs to the first class that fits."""

    ADJUSTMENT = "adjustment"
    CANCELLATION = "cancellation"
    WRITE_OFF = "write_off"
    ZERO_PRICE = "zero_price"
    SPECIAL_CODE = "special_code"
    PRODUCT_SALE = "product_sale"


@dataclass(frozen=True, slots=True)
class Line:
    """One row: signed units, pounds for a unit, and pence in all, rounded half away from zero.

    ``unit_price`` has up to three decimals. A product sale's is always whole pence, so that its ``amount`` is
    exactly ``quantity`` times that. ``description`` is stripped and may be empty; ``sku`` keeps its case.
    """

    line_class: LineClass
    sku: str
    description: str
    quantity: int
    unit_price: Decimal
    amount: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """All rows of one InvoiceNo in the file's order.

    ``occurred_at`` is the first row's time, in UTC; ``customer`` is None for a guest.
    """

    number: str
    occurred_at: datetime
    customer: str | None
    country: str
    lines: tuple[Line, ...]

    @property
    def sales(self) -> tuple[Line, ...]:
        """The product sales, which make up the order; empty where the invoice is no order."""
        return tuple(line for line in self.lines if line.line_class is LineClass.PRODUCT_SALE)


@dataclass(frozen=True, slots=True)
class Product:
    """A SKU of product sales: its first description and price, and the units sold, returns not netted."""

    sku: str
    description: str
    unit_price: Decimal
    units_sold: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Totals of some lines: signed units, pence, and how many invoices have at least one of them."""

    lines: int
    units: int
    pence: int
    invoices: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a file holds; the six classes add up to its total, save for the invoices that they share.

    Customers, SKUs (of all classes, case kept) and countries are counted, each once.
    ``first`` and ``last`` are the earliest and latest times of any line, in UTC; None when there is no line.
    """

    total: Tally
    classes: dict[LineClass, Tally]
    customers: int
    skus: int
    countries: int
    first: datetime | None
    last: datetime | None

    @property
    def orders(self) -> int:
        """How many invoices become orders: those with a product sale."""
        return self.classes[LineClass.PRODUCT_SALE].invoices


@dataclass(frozen=True, slots=True)
class RetailFile:
    """A file that was read to its end and is well formed; products are in the order of their first sale."""

    path: Path
    encoding: str
    report: Report
    products: tuple[Product, ...]
    _lines_of: dict[str, int] = field(repr=False)
    _identity: tuple[int, ...] = field(repr=False)

    def invoices(self) -> Iterator[Invoice]:
        """Each invoice, as soon as its last line is read; whole even where its lines are scattered.

        Raises MalformedFile if the file is no longer the one that was examined.
        """
        unfinished: dict[str, list[_Row]] = {}
        with _open(self.path, self.encoding) as reader:
            self._expect_identity(reader)
            for row in reader.rows():
                rows = unfinished.setdefault(row.invoice, [])
                rows.append(row)
                if len(rows) == self._lines_of.get(row.invoice):
                    del unfinished[row.invoice]
                    yield Invoice(
                        number=row.invoice,
                        occurred_at=rows[0].occurred_at,
                        customer=row.customer,
                        country=row.country,
                        lines=tuple(each.line for each in rows),
                    )
            self._expect_identity(reader)

    def _expect_identity(self, reader: _Reader) -> None:
        if reader.identity != self._identity:
            raise MalformedFile(self.path, "the file was changed after it was checked; import it again")


def examine(path: Path) -> RetailFile:
    """Read the whole file, plain or gzip, in UTF-8 or else in Windows-1252, and check every line of it.

    Raises MalformedFile at the first thing that is wrong.
    """
    with _open(path, "utf-8") as reader:
        try:
            return _survey(reader)
        except UnicodeDecodeError:
            not_utf8_at = reader.line
    with _open(path, "cp1252") as reader:
        try:
            return _survey(reader)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise reader.malformed_after(
                error.object[: error.start],
                f"the byte 0x{byte:02X} does not exist in Windows-1252, and line {not_utf8_at} is not UTF-8; "
                "expected a file that is wholly in one of the two",
            ) from None


def is_product(sku: str) -> bool:
    """Whether a code is an article's; others are postage, discounts, fees and the like."""
    return _PRODUCT.fullmatch(sku) is not None


def pence(quantity: int, unit_price: Decimal) -> int:
    """What so many units come to, rounded half away from zero."""
    return int((quantity * unit_price * 100).to_integral_value(ROUND_HALF_UP))


class _Row(NamedTuple):
    at: int
    invoice: str
    occurred_at: datetime
    customer: str | None
    country: str
    line: Line


class _Unexpected(ValueError):
    """A value that its column does not take."""

    def __init__(self, column: str, value: str, expected: str) -> None:
        self.column = column
        super().__init__(f"{_shown(value)} is not valid; expected {expected}")


class _Reader:
    """Goes through an open file once, and knows where it is when something is wrong."""

    def __init__(self, path: Path, file: BufferedReader, encoding: str) -> None:
        self.path = path
        self.encoding = encoding
        self.line = 0
        self._file = file
        self._content = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(_GZIP) else file
        self._has_bom = False
        self._header: list[str] = []
        self._record = ""
        self._record_at = 1

    @property
    def identity(self) -> tuple[int, ...]:
        """What changes when the file is replaced or written to."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def rows(self) -> Iterator[_Row]:
        """Every line below the header."""
        records = self._records()
        self._header = self._checked_header(next(records, []))
        in_order = itemgetter(*(self._header.index(column) for column in COLUMNS))
        for values in records:
            if len(values) != len(COLUMNS):
                raise self._wrong_length(values)
            try:
                yield _row(self._record_at, *in_order(values))
            except _Unexpected as error:
                before = values[: self._header.index(error.column)]
                line = self._record_at + sum(value.count("\n") for value in before)
                raise MalformedFile(self.path, str(error), line=line, column=error.column) from None

    def malformed_after(self, prefix: bytes, problem: str) -> MalformedFile:
        """An error in the line being read, right after ``prefix``."""
        values, _ = _whole_values(self._record + prefix.decode("latin-1"))
        return MalformedFile(self.path, problem, line=self.line, column=self._column(values))

    def _records(self) -> Iterator[list[str]]:
        records = csv.reader(self._lines(), strict=True)
        while True:
            self._record, self._record_at = "", self.line + 1
            try:
                values = next(records)
            except StopIteration:
                return
            except csv.Error:
                raise self._badly_quoted() from None
            yield values

    def _lines(self) -> Iterator[str]:
        while raw := self._next_line():
            self.line += 1
            if self.line == 1 and raw.startswith(BOM_UTF8):
                self._has_bom, raw = True, raw.removeprefix(BOM_UTF8)
            if len(raw) > LONGEST_LINE:
                problem = f"a line of more than {LONGEST_LINE} bytes; expected lines that end in LF or CRLF"
                raise self.malformed_after(raw, problem)
            if raw.endswith(b"\r\n"):
                raw = raw[:-2] + b"\n"
            if unfit := _UNFIT_BYTE.search(raw):
                raise self.malformed_after(raw[: unfit.start()], _UNFIT_BYTES[unfit.group()])
            text = self._decoded(raw)
            self._record += text
            if len(self._record) > LONGEST_LINE:
                raise self._badly_quoted()
            yield text

    def _next_line(self) -> bytes:
        try:
            return self._content.readline(LONGEST_LINE + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = f"the gzip data is damaged or cut off here ({error}); expected one whole gzip file"
            raise MalformedFile(self.path, problem, line=self.line + 1) from error

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            if not self._has_bom:
                raise
            problem = f"the byte 0x{raw[error.start]:02X} is not UTF-8, which the byte order mark promises"
            raise self.malformed_after(raw[: error.start], problem) from error

    def _checked_header(self, header: list[str]) -> list[str]:
        if sorted(header) == sorted(COLUMNS):
            return header
        missing = [column for column in COLUMNS if column not in header]
        unknown = [_shown(name) for name in dict.fromkeys(header) if name not in COLUMNS]
        repeated = [column for column in COLUMNS if header.count(column) > 1]
        faults = [
            f"{fault} {', '.join(names[: len(COLUMNS)])}{' and more' * (len(names) > len(COLUMNS))}"
            for fault, names in (("missing", missing), ("unknown", unknown), ("repeated", repeated))
            if names
        ]
        problem = f"wrong columns: {'; '.join(faults)}; expected {','.join(COLUMNS)}"
        at_fault = (unknown or repeated or missing)[0]
        raise MalformedFile(self.path, problem, line=1, column=at_fault)

    def _wrong_length(self, values: list[str]) -> MalformedFile:
        first_wrong = min(len(values), len(COLUMNS))
        problem = f"{len(values)} values; expected {len(COLUMNS)}, one for each column"
        return MalformedFile(self.path, problem, line=self.line, column=self._column(first_wrong))

    def _badly_quoted(self) -> MalformedFile:
        values, end = _whole_values(self._record)
        line = self._record_at + self._record.count("\n", 0, end)
        problem = (
            f"the value's quotes do not match within {LONGEST_LINE} characters; expected a value that begins "
            "with a double quote to end with one, before a comma or the line's end, and any inside it doubled"
        )
        return MalformedFile(self.path, problem, line=line, column=self._column(values))

    def _column(self, index: int) -> str:
        return self._header[index] if index < len(self._header) else str(index + 1)


@contextmanager
def _open(path: Path, encoding: str) -> Iterator[_Reader]:
    try:
        if path.exists() and not path.is_file():
            raise MalformedFile(path, "is a directory or a device; expected a file, which can be read twice")
        with path.open("rb") as file:
            yield _Reader(path, file, encoding)
    except OSError as error:
        raise MalformedFile(path, f"cannot be read: {error.strerror or error}") from error


def _survey(reader: _Reader) -> RetailFile:
    owners: dict[str, _Owner] = {}
    lines_of: Counter[str] = Counter()
    counts = {line_class: _Count() for line_class in LineClass}
    descriptions: dict[str, str] = {}
    prices: dict[str, Decimal] = {}
    sold: Counter[str] = Counter()
    skus: set[str] = set()
    first = last = None
    for row in reader.rows():
        line = row.line
        lines_of[row.invoice] += 1
        owner = owners.get(row.invoice)
        if owner is None:
            owners[row.invoice] = _Owner(row.at, row.customer, row.country)
        elif owner[1:] != (row.customer, row.country):
            raise _two_owners(reader.path, owner, row)
        counts[line.line_class].add(row)
        skus.add(line.sku)
        first = row.occurred_at if first is None else min(first, row.occurred_at)
        last = row.occurred_at if last is None else max(last, row.occurred_at)
        if line.line_class is LineClass.PRODUCT_SALE:
            descriptions[line.sku] = descriptions.get(line.sku) or line.description
            prices.setdefault(line.sku, line.unit_price)
            sold[line.sku] += line.quantity
    classes = {line_class: count.tally() for line_class, count in counts.items()}
    return RetailFile(
        path=reader.path,
        encoding=reader.encoding,
        report=Report(
            total=Tally(
                lines=sum(tally.lines for tally in classes.values()),
                units=sum(tally.units for tally in classes.values()),
                pence=sum(tally.pence for tally in classes.values()),
                invoices=len(owners),
            ),
            classes=classes,
            customers=len({owner.customer for owner in owners.values()} - {None}),
            skus=len(skus),
            countries=len({owner.country for owner in owners.values()}),
            first=first,
            last=last,
        ),
        products=tuple(
            Product(sku=sku, description=descriptions[sku], unit_price=prices[sku], units_sold=units)
            for sku, units in sold.items()
        ),
        _lines_of=lines_of,
        _identity=reader.identity,
    )


class _Owner(NamedTuple):
    at: int
    customer: str | None
    country: str


@dataclass(slots=True)
class _Count:
    lines: int = 0
    units: int = 0
    pence: int = 0
    invoices: set[str] = field(default_factory=set)

    def add(self, row: _Row) -> None:
        self.lines += 1
        self.units += row.line.quantity
        self.pence += row.line.amount
        self.invoices.add(row.invoice)

    def tally(self) -> Tally:
        return Tally(self.lines, self.units, self.pence, len(self.invoices))


def _two_owners(path: Path, owner: _Owner, row: _Row) -> MalformedFile:
    if owner.customer != row.customer:
        column, was, now = "CustomerID", owner.customer or "no customer", row.customer or "no customer"
    else:
        column, was, now = "Country", _shown(owner.country), _shown(row.country)
    problem = f"invoice {row.invoice} has {now} here and {was} in line {owner.at}; expected one for all lines"
    return MalformedFile(path, problem, line=row.at, column=column)


def _row(
    at: int,
    invoice: str,
    sku: str,
    description: str,
    quantity_text: str,
    date: str,
    price_text: str,
    customer: str,
    country: str,
) -> _Row:
    if not _INVOICE.fullmatch(invoice):
        raise _Unexpected("InvoiceNo", invoice, "digits such as 536365, or C or A and digits such as C536379")
    if not sku.strip() or len(sku) > LONGEST_TEXT:
        raise _Unexpected("StockCode", sku, f"a code such as 85123A, of at most {LONGEST_TEXT} characters")
    if len(description) > LONGEST_TEXT:
        raise _Unexpected("Description", description, f"at most {LONGEST_TEXT} characters")
    if not _QUANTITY.fullmatch(quantity_text):
        raise _Unexpected(
            "Quantity", quantity_text, "a whole number such as 6 or -6, other than 0, of at most 7 digits"
        )
    if not country.strip() or len(country) > LONGEST_TEXT:
        raise _Unexpected("Country", country, f"a country's name, of at most {LONGEST_TEXT} characters")
    quantity, unit_price = int(quantity_text), _price(price_text)
    if unit_price < 0 and not invoice.startswith("A"):
        raise _Unexpected("UnitPrice", price_text, "0 or more: only an adjustment (InvoiceNo A...) has less")
    line_class = _class_of(invoice, quantity, unit_price, sku)
    if line_class is LineClass.PRODUCT_SALE and unit_price % _PENNY:
        raise _Unexpected("UnitPrice", price_text, "whole pence: a product is not sold for a fraction of one")
    line = Line(line_class, sku, description.strip(), quantity, unit_price, pence(quantity, unit_price))
    return _Row(at, invoice, _time(date), _customer(customer), country, line)


def _class_of(invoice: str, quantity: int, unit_price: Decimal, sku: str) -> LineClass:
    if invoice.startswith("A"):
        return LineClass.ADJUSTMENT
    if invoice.startswith("C"):
        return LineClass.CANCELLATION
    if quantity < 0:
        return LineClass.WRITE_OFF
    if unit_price == 0:
        return LineClass.ZERO_PRICE
    if not is_product(sku):
        return LineClass.SPECIAL_CODE
    return LineClass.PRODUCT_SALE


@lru_cache(maxsize=4096)
def _price(text: str) -> Decimal:
    if not _PRICE.fullmatch(text):
        raise _Unexpected("UnitPrice", text, "pounds such as 2.55, with at most 7 digits and 3 decimals")
    return Decimal(text)


@lru_cache(maxsize=4096)
def _time(text: str) -> datetime:
    """UK local time in UTC; a time that occurs twice, when summer time ends, is taken as the first."""
    if match := _ISO_DATE.fullmatch(text) or _US_DATE.fullmatch(text):
        parts = {part: int(digits) for part, digits in match.groupdict().items()}
        with suppress(ValueError):
            return datetime(**parts, tzinfo=_LONDON).astimezone(UTC)
    raise _Unexpected("InvoiceDate", text, "2010-12-01 08:26:00 or, month first, 12/1/2010 8:26")


@lru_cache(maxsize=4096)
def _customer(text: str) -> str | None:
    if not text:
        return None
    if match := _CUSTOMER.fullmatch(text):
        return match[1]
    raise _Unexpected("CustomerID", text, "digits such as 17850, or nothing for a guest")


def _whole_values(text: str) -> tuple[int, int]:
    """How many values at the beginning of a record are complete, comma included, and where the last ends."""
    count = end = 0
    while match := _WHOLE_VALUE.match(text, end):
        count, end = count + 1, match.end()
    return count, end


def _shown(value: str) -> str:
    """A value as a message can carry it: short, and with nothing in it that a terminal would obey."""
    return repr(value) if len(value) <= 40 else f"{value[:40]!r}..."
