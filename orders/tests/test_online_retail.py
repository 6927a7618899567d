"""Reading UCI Online Retail: to the unit and the penny, or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orders.management.online_retail import (
    COLUMNS,
    LONGEST_LINE,
    Invoice,
    LineClass,
    MalformedFile,
    Product,
    RetailFile,
    Tally,
    examine,
)

HEADER = ",".join(COLUMNS)
SALE = "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom"
SAMPLE = Path(__file__).parents[1] / "management" / "sample" / "online_retail.csv.gz"
SHARED = Path(__file__).parents[3] / "shared" / "data"
DEVELOPMENT_SAMPLE = SHARED / "retail_sample_dev.csv.gz"

needs_development_sample = pytest.mark.skipif(
    not DEVELOPMENT_SAMPLE.exists(),
    reason="the development sample is not beside the project (../shared/data)",
)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def save(content: str | bytes) -> Path:
        path = tmp_path / "orders.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


def table(*lines: str) -> str:
    return "".join(f"{line}\n" for line in (HEADER, *lines))


def sale(**changes: str) -> str:
    """A product sale with some of its values replaced, by column."""
    row = dict(zip(COLUMNS, SALE.split(","), strict=True)) | changes
    return ",".join(row.values())


def written(rows: Iterable[list[str]], line_ending: str = "\n") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_ending).writerows([list(COLUMNS), *rows])
    return text.getvalue()


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def pence(row: dict[str, str]) -> int:
    exact = Decimal(row["Quantity"]) * Decimal(row["UnitPrice"]) * 100
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def as_dict(tally: Tally) -> dict[str, int]:
    return {
        "lines": tally.lines,
        "units": tally.units,
        "pence": tally.pence,
        "invoices_touched": tally.invoices,
    }


# The development sample


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SHARED / "facts_dev.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def development() -> RetailFile:
    return examine(DEVELOPMENT_SAMPLE)


@needs_development_sample
def test_development_sample_has_the_expected_totals(development: RetailFile, facts: dict[str, Any]) -> None:
    report = development.report
    assert report.total == Tally(facts["lines"], facts["units_net"], facts["pence_net"], facts["invoices"])
    assert report.customers == facts["customers"]
    assert report.skus == facts["skus_raw"]
    assert report.countries == facts["countries"]
    assert report.first == datetime.fromisoformat(facts["min_ts"]).replace(tzinfo=UTC)
    assert report.last == datetime.fromisoformat(facts["max_ts"]).replace(tzinfo=UTC)
    assert report.orders == facts["N_invoices_with_a_product_sale_line"]


@needs_development_sample
def test_every_line_of_the_development_sample_is_in_its_class(development: RetailFile, facts: dict[str, Any]) -> None:
    expected = {int(name[0]): totals for name, totals in facts["classes"].items()}
    nothing = {"lines": 0, "units": 0, "pence": 0, "invoices_touched": 0}
    found = {position: as_dict(development.report.classes[each]) for position, each in enumerate(LineClass, 1)}
    assert found == {position: expected.get(position, nothing) for position in range(1, 7)}


@needs_development_sample
def test_invoices_of_the_development_sample_add_up_by_month_and_by_country(
    development: RetailFile, facts: dict[str, Any]
) -> None:
    months: defaultdict[str, Counter[str]] = defaultdict(Counter)
    countries: Counter[str] = Counter()
    for invoice in development.invoices():
        kind = invoice.number[0] if invoice.number[0] in "AC" else "N"
        amount = sum(line.amount for line in invoice.lines)
        month = months[f"{invoice.occurred_at:%Y-%m}"]
        month.update({"lines": len(invoice.lines), f"{kind}_invoices": 1})
        month[f"{kind}_pence"] += amount
        month["net_pence"] += amount
        countries[invoice.country] += amount
    assert months == {month: Counter(totals) for month, totals in facts["months"].items()}
    for country, _, _, amount in facts["orders_by_country_top10"]:
        assert countries[country] == amount


@needs_development_sample
def test_orders_of_the_development_sample_are_its_product_sales(development: RetailFile) -> None:
    orders = [invoice for invoice in development.invoices() if invoice.sales]
    lines = [line for order in orders for line in order.sales]
    assert len(orders) == 2_293
    assert len(lines) == 67_110
    assert sum(line.quantity for line in lines) == 672_175
    assert sum(line.amount for line in lines) == 131_149_800
    assert sum(product.units_sold for product in development.products) == 672_175
    assert len(next(order for order in orders if order.number == "537434").lines) == 675


# The bundled sample


def test_bundled_sample_is_250_whole_invoices_that_add_up() -> None:
    rows = rows_of(SAMPLE)
    file = examine(SAMPLE)
    assert file.report.total == Tally(
        lines=len(rows),
        units=sum(int(row["Quantity"]) for row in rows),
        pence=sum(pence(row) for row in rows),
        invoices=250,
    )
    assert file.report.total.lines == 4_510
    assert sum(tally.lines for tally in file.report.classes.values()) == 4_510


def test_bundled_sample_sells_the_same_units_of_each_sku_as_a_plain_count() -> None:
    sales = [
        row
        for row in rows_of(SAMPLE)
        if row["InvoiceNo"].isdigit() and int(row["Quantity"]) > 0 and Decimal(row["UnitPrice"]) > 0
        if row["StockCode"][:5].isdigit() and row["StockCode"][:5].isascii()
    ]
    sold: Counter[str] = Counter()
    for row in sales:
        sold[row["StockCode"]] += int(row["Quantity"])
    file = examine(SAMPLE)
    assert {product.sku: product.units_sold for product in file.products} == sold
    assert as_dict(file.report.classes[LineClass.PRODUCT_SALE]) == {
        "lines": 4_452,
        "units": 45_725,
        "pence": sum(pence(row) for row in sales),
        "invoices_touched": 222,
    }


# What a line is


@pytest.mark.parametrize(
    ("changes", "line_class"),
    [
        ({"InvoiceNo": "A563185", "UnitPrice": "-11062.06", "StockCode": "B"}, LineClass.ADJUSTMENT),
        ({"InvoiceNo": "A563185", "Quantity": "-1"}, LineClass.ADJUSTMENT),
        ({"InvoiceNo": "C536379", "Quantity": "-1", "StockCode": "D"}, LineClass.CANCELLATION),
        ({"InvoiceNo": "C536379", "Quantity": "1", "UnitPrice": "0"}, LineClass.CANCELLATION),
        ({"Quantity": "-10", "UnitPrice": "0"}, LineClass.WRITE_OFF),
        ({"Quantity": "-10", "StockCode": "POST"}, LineClass.WRITE_OFF),
        ({"UnitPrice": "0"}, LineClass.ZERO_PRICE),
        ({"UnitPrice": "0.00", "StockCode": "POST"}, LineClass.ZERO_PRICE),
        ({"StockCode": "POST"}, LineClass.SPECIAL_CODE),
        ({"StockCode": "gift_0001_40"}, LineClass.SPECIAL_CODE),
        ({"StockCode": "851234"}, LineClass.SPECIAL_CODE),
        ({"StockCode": "85123ABC"}, LineClass.SPECIAL_CODE),
        ({"StockCode": "85123\u0661"}, LineClass.SPECIAL_CODE),
        ({"StockCode": '"85123A\n"'}, LineClass.SPECIAL_CODE),
        ({"StockCode": "85123"}, LineClass.PRODUCT_SALE),
        ({"StockCode": "15056bl"}, LineClass.PRODUCT_SALE),
    ],
)
def test_line_belongs_to_the_first_class_that_fits(
    saved: Callable[[str], Path], changes: dict[str, str], line_class: LineClass
) -> None:
    file = examine(saved(table(sale(**changes))))
    assert [each for each, tally in file.report.classes.items() if tally.lines] == [line_class]
    (invoice,) = file.invoices()
    assert invoice.lines[0].line_class is line_class
    assert bool(invoice.sales) is (line_class is LineClass.PRODUCT_SALE)


@pytest.mark.parametrize(
    ("quantity", "unit_price", "amount"),
    [("6", "2.55", 1530), ("1", "0.001", 0), ("5", "0.001", 1), ("-5", "0.001", -1), ("-4", "0.001", 0)],
)
def test_amount_is_rounded_to_the_penny_half_away_from_zero(
    saved: Callable[[str], Path], quantity: str, unit_price: str, amount: int
) -> None:
    path = saved(table(sale(StockCode="PADS", Quantity=quantity, UnitPrice=unit_price)))
    (invoice,) = examine(path).invoices()
    assert (invoice.lines[0].unit_price, invoice.lines[0].amount) == (Decimal(unit_price), amount)


def test_identical_lines_are_separate_lines(saved: Callable[[str], Path]) -> None:
    file = examine(saved(table(SALE, SALE)))
    (invoice,) = file.invoices()
    assert len(invoice.sales) == 2
    assert file.report.total == Tally(lines=2, units=12, pence=3060, invoices=1)


def test_product_has_its_first_price_and_its_first_description_that_says_something(
    saved: Callable[[str], Path],
) -> None:
    path = saved(
        table(
            sale(StockCode="POST"),
            sale(Description="  "),
            sale(Description=" LANTERN ", UnitPrice="3", Quantity="4"),
            sale(Description="LAMP", UnitPrice="4"),
            sale(StockCode="85123a", Description=""),
            sale(InvoiceNo="C536379", Quantity="-6"),
        )
    )
    assert examine(path).products == (
        Product("85123A", "LANTERN", Decimal("2.55"), units_sold=16),
        Product("85123a", "", Decimal("2.55"), units_sold=6),
    )


# What an invoice is


def test_scattered_lines_are_gathered_into_their_invoice(saved: Callable[[str], Path]) -> None:
    file = examine(
        saved(
            table(
                sale(InvoiceNo="1", StockCode="11111"),
                sale(InvoiceNo="2", StockCode="22222", InvoiceDate="2010-12-02 09:00:00"),
                sale(InvoiceNo="1", StockCode="33333", InvoiceDate="2010-12-01 08:27:00"),
            )
        )
    )
    found = [(each.number, [line.sku for line in each.lines]) for each in file.invoices()]
    assert found == [("2", ["22222"]), ("1", ["11111", "33333"])]
    assert file.report.total.invoices == 2


def test_invoice_occurred_at_the_time_of_its_first_line(saved: Callable[[str], Path]) -> None:
    path = saved(table(sale(InvoiceDate="2010-12-01 08:27:00"), sale(InvoiceDate="2010-12-01 08:26:00")))
    file = examine(path)
    (invoice,) = file.invoices()
    assert invoice.occurred_at == datetime(2010, 12, 1, 8, 27, tzinfo=UTC)
    assert file.report.first == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert file.report.last == datetime(2010, 12, 1, 8, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2010-12-01 08:26:00", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        ("12/1/2010 8:26", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        ("7/4/2011 10:01", datetime(2011, 7, 4, 9, 1, tzinfo=UTC)),
        ("2011-07-04 00:30:00", datetime(2011, 7, 3, 23, 30, tzinfo=UTC)),
        ("10/30/2011 1:30", datetime(2011, 10, 30, 0, 30, tzinfo=UTC)),
    ],
)
def test_time_is_uk_local_time(saved: Callable[[str], Path], text: str, moment: datetime) -> None:
    (invoice,) = examine(saved(table(sale(InvoiceDate=text)))).invoices()
    assert invoice.occurred_at == moment
    assert invoice.occurred_at.tzinfo is UTC


@pytest.mark.parametrize(("text", "customer"), [("17850", "17850"), ("17850.0", "17850"), ("", None)])
def test_customer_is_a_number_or_a_guest(saved: Callable[[str], Path], text: str, customer: str | None) -> None:
    file = examine(saved(table(sale(CustomerID=text))))
    (invoice,) = file.invoices()
    assert invoice.customer == customer
    assert file.report.customers == (customer is not None)


@pytest.mark.parametrize(
    ("second", "column", "both"),
    [
        ({"CustomerID": "13047"}, "CustomerID", "has 13047 here and 17850 in line 2"),
        ({"CustomerID": ""}, "CustomerID", "has no customer here and 17850 in line 2"),
        ({"Country": "France"}, "Country", "has 'France' here and 'United Kingdom' in line 2"),
    ],
)
def test_invoice_of_two_customers_is_refused(
    saved: Callable[[str], Path], second: dict[str, str], column: str, both: str
) -> None:
    path = saved(table(SALE, sale(InvoiceNo="536366"), sale(**second)))
    with pytest.raises(MalformedFile, match=both) as refusal:
        examine(path)
    assert (refusal.value.line, refusal.value.column) == (4, column)


# How a file may be written


def test_pound_sign_is_read_in_both_encodings(saved: Callable[[bytes], Path]) -> None:
    text = table(sale(Description="GIFT VOUCHER \u00a340"))
    for encoding in ("utf-8", "utf-8-sig", "cp1252"):
        file = examine(saved(text.encode(encoding)))
        assert file.encoding == ("cp1252" if encoding == "cp1252" else "utf-8")
        (invoice,) = file.invoices()
        assert invoice.lines[0].description == "GIFT VOUCHER \u00a340"


def test_one_byte_that_is_not_utf8_makes_the_whole_file_windows_1252(saved: Callable[[bytes], Path]) -> None:
    path = saved(table(sale(Description="\u00a31")).encode() + sale(Description="\u00a32").encode("cp1252"))
    (invoice,) = examine(path).invoices()
    assert [line.description for line in invoice.lines] == ["\u00c2\u00a31", "\u00a32"]


def test_columns_may_come_in_any_order(saved: Callable[[str], Path]) -> None:
    rows = [row.split(",")[::-1] for row in (HEADER, SALE)]
    path = saved("".join(f"{','.join(row)}\n" for row in rows))
    assert examine(path).products == (Product("85123A", "WHITE HANGING HEART", Decimal("2.55"), units_sold=6),)


def test_gzip_is_recognised_by_its_content(saved: Callable[[bytes], Path]) -> None:
    plain = examine(saved(table(SALE).encode())).report
    members = gzip.compress(f"{HEADER}\n".encode()) + gzip.compress(SALE.encode())
    assert examine(saved(members)).report == plain


def test_file_with_a_header_alone_has_nothing_to_do(saved: Callable[[str], Path]) -> None:
    for content in (HEADER, f"{HEADER}\r\n"):
        file = examine(saved(content))
        assert file.report.total == Tally(0, 0, 0, 0)
        assert (file.report.first, file.report.last, file.products) == (None, None, ())
        assert list(file.invoices()) == []


descriptions = st.text(alphabet='AZ az,"\n\u00a3\u20ac\u0161', max_size=12)
rows = st.lists(
    st.tuples(
        st.sampled_from(["536365", "536366", "C536379", "A563185"]),
        st.sampled_from(["85123A", "85123a", "71053", "POST", "D"]),
        descriptions,
        st.integers(-99, 99).filter(bool),
        st.datetimes(datetime(2009, 1, 1), datetime(2012, 1, 1)),  # noqa: DTZ001 - the data's own naive UK time
        st.sampled_from(["0", "2.55", "3", "13541.33"]),
    ),
    max_size=8,
)


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}:00"


def month_first(moment: datetime) -> str:
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour}:{moment.minute:02}"


def examined(content: bytes) -> tuple[RetailFile, list[Invoice]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.csv"
        path.write_bytes(content)
        file = examine(path)
        return file, list(file.invoices())


@settings(deadline=None, max_examples=60)
@given(rows, st.sampled_from(["utf-8", "utf-8-sig", "cp1252"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_way_a_file_is_written_changes_nothing(
    rows: list[tuple[str, str, str, int, datetime, str]], encoding: str, line_ending: str, compressed: bool
) -> None:
    def content(date: Callable[[datetime], str], customer: str) -> list[list[str]]:
        return [
            [invoice, sku, text, str(quantity), date(moment), price, customer, "United Kingdom"]
            for invoice, sku, text, quantity, moment, price in rows
        ]

    plain, invoices = examined(written(content(iso, "17850")).encode())
    # A pound sign and nothing else beyond ASCII can't be mistaken for UTF-8.
    text = written(content(month_first, "17850.0")).replace("\r\n", "\n").replace("\n", line_ending)
    raw = text.encode(encoding)
    other, other_invoices = examined(gzip.compress(raw) if compressed else raw)
    assert other.report == plain.report
    assert other.products == plain.products
    assert other_invoices == invoices


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 4_510))
def test_two_parts_of_a_file_add_up_to_the_whole(cut: int) -> None:
    with gzip.open(SAMPLE, "rb") as content:
        header, *lines = content.readlines()
    whole = examine(SAMPLE).report
    parts = [examined(header + b"".join(part))[0].report for part in (lines[:cut], lines[cut:])]
    for line_class, tally in whole.classes.items():
        tallies = [part.classes[line_class] for part in parts]
        assert sum(each.lines for each in tallies) == tally.lines
        assert sum(each.units for each in tallies) == tally.units
        assert sum(each.pence for each in tallies) == tally.pence


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_shuffled_lines_make_the_same_invoices(random: Any) -> None:
    with gzip.open(SAMPLE, "rb") as content:
        header, *lines = content.readlines()
    lines = lines[:500]
    straight, invoices = examined(header + b"".join(lines))
    random.shuffle(lines)
    shuffled, shuffled_invoices = examined(header + b"".join(lines))
    assert shuffled.report == straight.report
    assert {each.number: Counter(each.lines) for each in shuffled_invoices} == {
        each.number: Counter(each.lines) for each in invoices
    }


# What is refused


WRONG_VALUES = {
    "InvoiceNo": ["", "X536365", "c536379", "536365 ", "5363\u0665", "9" * 21],
    "StockCode": ["", " ", "1" * 256],
    "Description": ["A" * 256],
    "Quantity": ["", "0", "1e5", "NaN", "\u0663", "1_000", "+5", "6.0", " 6", "--6", "10000000", "9" * 5000],
    "InvoiceDate": [
        "",
        "2010-12-01",
        "31/02/2011 8:26",
        "2/31/2011 8:26",
        "2011-02-31 08:26:00",
        "0000-12-01 08:26:00",
        "2010-12-01 24:00:00",
        "2010-12-01 08:26:60",
        "2010-12-01T08:26:00",
        "2010-12-01 08:26:00Z",
        "1e9",
        "\u0662010-12-01 08:26:00",
    ],
    "UnitPrice": [
        "",
        "-2.55",
        "1e5",
        "NaN",
        "Infinity",
        "\u0663",
        "1_000",
        "+5",
        ".5",
        "5.",
        "2.5555",
        "2.555",
        "\u00a32.55",
        "10000000",
    ],
    "CustomerID": ["nan", " ", "17850.5", "17850.00", "-1", "9" * 21],
    "Country": ["", " ", "A" * 256],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column, values in WRONG_VALUES.items() for value in values]
)
def test_wrong_value_is_refused_with_its_line_and_column(saved: Callable[[str], Path], column: str, value: str) -> None:
    path = saved(table(SALE, sale(**({"InvoiceNo": "536366"} | {column: value}))))
    with pytest.raises(MalformedFile) as refusal:
        examine(path)
    assert (refusal.value.line, refusal.value.column) == (3, column)
    assert str(refusal.value).startswith(f"{path}, line 3, column {column}: {value[:40]!r}")
    assert "; expected " in str(refusal.value)
    assert len(refusal.value.problem) < 200


MALFORMED: dict[str, tuple[bytes, int, str | None, str]] = {
    "an empty file": (b"", 1, "InvoiceNo", "missing InvoiceNo, StockCode"),
    "no header": (f"{SALE}\n".encode(), 1, "'536365'", "wrong columns"),
    "a missing column": (HEADER.replace(",Country", "").encode(), 1, "Country", "missing Country"),
    "an unknown column": (f"{HEADER},Colour".encode(), 1, "'Colour'", "unknown 'Colour'"),
    "a repeated column": (f"{HEADER},Country".encode(), 1, "Country", "repeated Country"),
    "another case": (HEADER.lower().encode(), 1, "'invoiceno'", "missing InvoiceNo.*unknown 'invoiceno'"),
    "too few values": (table("536365,85123A,HEART").encode(), 2, "Quantity", "3 values; expected 8"),
    "too many values": (table(SALE, f"{SALE},x").encode(), 3, "9", "9 values; expected 8"),
    "a blank line": (table(SALE, "", SALE).encode(), 3, "InvoiceNo", "0 values; expected 8"),
    "an open quote": (table(SALE, '536365,85123A,"HEART,6', SALE).encode(), 3, "Description", "quotes"),
    "text after a quote": (
        table(SALE, sale(Description='"WHITE" HEART')).encode(),
        3,
        "Description",
        "quotes",
    ),
    "an open quote far from the end": (
        table(SALE, sale(Country='"United Kingdom'), *[SALE] * 2000).encode(),
        3,
        "Country",
        f"quotes do not match within {LONGEST_LINE} characters",
    ),
    "an open quote after quoted line breaks": (
        table(sale(Description='"WHITE\n\nHEART"', Country='"United Kingdom')).encode(),
        4,
        "Country",
        "quotes do not match",
    ),
    "a record without end": (
        f"{HEADER}\n".encode() + b'"\n",' * LONGEST_LINE,
        2 + LONGEST_LINE // 4,
        str(1 + LONGEST_LINE // 4),
        f"within {LONGEST_LINE} characters",
    ),
    "a lone carriage return": (
        table(SALE, SALE.replace("HANGING", "\r")).encode(),
        3,
        "Description",
        "carriage",
    ),
    "carriage returns alone": (table(SALE).replace("\n", "\r").encode(), 1, "8", "carriage return"),
    "a NUL byte": (table(SALE, sale(Country="United\0Kingdom")).encode(), 3, "Country", "NUL"),
    "UTF-16": (table(SALE).encode("utf-16"), 1, "1", "NUL"),
    "a byte in no encoding": (
        table(SALE, sale(Description="\u00a340")).encode("cp1252") + sale(Country="\u0141").encode(),  # C5 81 in UTF-8
        4,
        "Country",
        "0x81 does not exist in Windows-1252, and line 3 is not UTF-8",
    ),
    "a byte order mark without UTF-8": (
        b"\xef\xbb\xbf" + table(SALE, sale(Description="\u00a340")).encode("cp1252"),
        3,
        "Description",
        "0xA3 is not UTF-8, which the byte order mark promises",
    ),
    "a number after quoted line breaks": (
        table(sale(Description='"WHITE\n\nHEART"', Quantity="six")).encode(),
        4,
        "Quantity",
        "'six' is not valid",
    ),
    "a line after quoted line breaks": (
        table(sale(Description='"WHITE\n\nHEART"'), sale(Quantity="six")).encode(),
        5,
        "Quantity",
        "'six' is not valid",
    ),
    "a long line": (table(SALE, "1" * LONGEST_LINE).encode(), 3, "InvoiceNo", "more than 65536 bytes"),
    "truncated gzip": (
        gzip.compress(table(SALE, SALE).encode(), mtime=0)[:-9],
        4,
        None,
        "damaged or cut off",
    ),
    "gzip without its end": (gzip.compress(table(SALE).encode())[:-1], 3, None, "damaged or cut off"),
    "garbage after gzip": (gzip.compress(table(SALE).encode()) + b"garbage", 3, None, "damaged or cut off"),
    "gzip with a wrong checksum": (
        gzip.compress(table(SALE).encode())[:-8] + bytes(8),
        3,
        None,
        "damaged or cut off",
    ),
    "gzip that isn't": (b"\x1f\x8b\x08\x00" + b"no gzip at all", 1, None, "damaged or cut off"),
    "a control sequence": (table(sale(Quantity="\x1b[31m6")).encode(), 2, "Quantity", r"'\\x1b\[31m6' is"),
}


@pytest.mark.parametrize(("content", "line", "column", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_file_is_refused_with_its_line_and_column(
    saved: Callable[[bytes], Path], content: bytes, line: int, column: str | None, problem: str
) -> None:
    path = saved(content)
    with pytest.raises(MalformedFile, match=problem) as refusal:
        examine(path)
    assert (refusal.value.line, refusal.value.column) == (line, column)
    assert str(path) in str(refusal.value)
    assert "expected" in str(refusal.value) or "promises" in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    looped = tmp_path / "looped.csv"
    looped.symlink_to(looped)
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path, problem in [
        (tmp_path / "missing.csv", "No such file"),
        (tmp_path, "a directory or a device"),
        (pipe, "a directory or a device"),
        (looped, "cannot be read"),
    ]:
        with pytest.raises(MalformedFile, match=problem) as refusal:
            examine(path)
        assert str(path) in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission_is_refused(saved: Callable[[str], Path]) -> None:
    path = saved(table(SALE))
    path.chmod(0)
    with pytest.raises(MalformedFile, match="Permission denied"):
        examine(path)


def test_file_that_changes_after_it_was_examined_is_refused(saved: Callable[[str], Path]) -> None:
    file = examine(saved(table(SALE)))
    saved(table(SALE, SALE))
    with pytest.raises(MalformedFile, match="changed after it was checked"):
        next(file.invoices())


def test_file_that_changes_while_its_invoices_are_read_is_refused(saved: Callable[[str], Path]) -> None:
    file = examine(saved(table(SALE, sale(InvoiceNo="536366"))))
    invoices = file.invoices()
    next(invoices)
    with file.path.open("a") as more:
        more.write(f"{SALE}\n")
    with pytest.raises(MalformedFile, match="changed after it was checked"):
        list(invoices)


# How much memory it takes


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_line_of_200_mb_is_refused_without_being_held(saved: Callable[[bytes], Path]) -> None:
    megabyte = gzip.compress(b"1" * 1024 * 1024)
    path = saved(gzip.compress(f"{HEADER}\n".encode()) + megabyte * 200)

    def refuse() -> None:
        with pytest.raises(MalformedFile, match="line 2, column InvoiceNo: a line of more than 65536 bytes"):
            examine(path)

    assert peak_of(refuse) < 4_000_000


def test_memory_does_not_grow_with_the_lines(saved: Callable[[str], Path]) -> None:
    def peak(lines: int) -> int:
        path = saved(table(*(sale(InvoiceNo=str(number // 50)) for number in range(lines))))

        def read() -> None:
            for _ in examine(path).invoices():
                pass

        read()
        return peak_of(read)

    smaller, larger = peak(1_000), peak(10_000)
    assert larger - smaller < 200_000
