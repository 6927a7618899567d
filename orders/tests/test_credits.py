"""Credits find the orders that they are about, or a reason why they don't."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from orders.commands import ReturnLine
from orders.management.credits import Credit, Matching, Reason
from orders.management.naming import order_of, return_of
from orders.management.online_retail import COLUMNS, RetailFile, examine
from orders.models import ReturnedLine, Status

HEADER = ",".join(COLUMNS)
HEART, LANTERN = "85123A", "71053"
Match = Callable[..., list[Credit]]


def line(invoice: str, sku: str, quantity: int, price: str = "2.55", customer: str = "17850") -> str:
    return f"{invoice},{sku},,{quantity},2010-12-01 08:26:00,{price},{customer},United Kingdom"


def back(credit: str, invoice: str, number: int, sku: str, quantity: int, price: int = 255) -> ReturnedLine:
    """A line that a credit invoice, or somebody, has brought back already."""
    return ReturnedLine(
        order_id=order_of(invoice),
        return_id=return_of(credit),
        number=number,
        sku=sku,
        quantity=quantity,
        currency="GBP",
        unit_price_minor=price,
    )


@pytest.fixture
def match(tmp_path: Path) -> Match:
    """Matches a file of these lines, whose orders are all confirmed unless they are named with another state."""

    def match(*lines: str, returned: Iterable[ReturnedLine] = (), **states: Status | None) -> list[Credit]:
        path = tmp_path / "retail.csv"
        path.write_text("".join(f"{each}\n" for each in (HEADER, *lines)))
        retail = examine(path)
        return list(Matching(retail, _states(retail, states), returned).credits())

    return match


def _states(retail: RetailFile, given: dict[str, Status | None]) -> dict[UUID, Status]:
    states = {invoice.number: given.get(f"order{invoice.number}", Status.CONFIRMED) for invoice in retail.invoices()}
    return {order_of(number): state for number, state in states.items() if state}


def returns(credit: Credit) -> dict[UUID, list[tuple[int, int]]]:
    return {order_id: [(each.number, each.quantity) for each in lines] for order_id, lines in credit.returns.items()}


def missing(credit: Credit) -> list[dict[Reason, int]]:
    return [dict(each.missing) for each in credit.lines]


def test_a_credit_is_about_the_latest_order_of_its_customer_that_holds_the_units(match: Match) -> None:
    (credit,) = match(
        line("1", HEART, 6), line("2", HEART, 6), line("3", HEART, 6, customer="1"), line("C4", HEART, -4)
    )
    assert returns(credit) == {order_of("2"): [(1, 4)]}
    assert missing(credit) == [{}]
    assert not credit.registered


def test_an_order_that_holds_all_units_goes_before_a_later_one_that_holds_some(match: Match) -> None:
    (credit,) = match(line("1", HEART, 6), line("2", HEART, 3), line("C3", HEART, -4))
    assert returns(credit) == {order_of("1"): [(1, 4)]}


def test_where_no_order_holds_all_units_they_are_of_the_latest_that_hold_some(match: Match) -> None:
    (credit,) = match(line("1", HEART, 6), line("2", HEART, 3), line("C3", HEART, -8))
    assert returns(credit) == {order_of("2"): [(1, 3)], order_of("1"): [(1, 5)]}


def test_what_one_credit_took_another_does_not_find(match: Match) -> None:
    first, second, third = match(
        line("1", HEART, 6),
        line("2", HEART, 3),
        line("C3", HEART, -3),
        line("C4", HEART, -3),
        line("C5", HEART, -4),
    )
    assert returns(first) == {order_of("2"): [(1, 3)]}
    assert returns(second) == {order_of("1"): [(1, 3)]}
    assert returns(third) == {order_of("1"): [(1, 3)]}
    assert missing(third) == [{Reason.RETURNED_BEFORE: 1}]
    assert [each.found for each in third.lines] == [3]


def test_lines_of_one_order_are_one_return(match: Match) -> None:
    (credit,) = match(
        line("1", "POST", 1),
        line("1", HEART, 2),
        line("1", LANTERN, 5),
        line("1", HEART, 2),
        line("C2", HEART, -3),
        line("C2", LANTERN, -1),
        line("C2", HEART, -1),
    )
    assert credit.returns == {
        order_of("1"): (
            ReturnLine(number=1, quantity=2),
            ReturnLine(number=2, quantity=1),
            ReturnLine(number=3, quantity=2),
        )
    }


@pytest.mark.parametrize(
    ("sold", "credited", "reason"),
    [
        ([line("1", HEART, 6)], line("C2", HEART, -1, customer=""), Reason.NO_CUSTOMER),
        ([line("1", HEART, 6)], line("C2", "D", -1), Reason.NO_GOODS),
        ([line("1", "POST", 6)], line("C2", "POST", -1), Reason.NO_GOODS),
        ([line("1", HEART, 6, price="0")], line("C2", HEART, -1, price="0"), Reason.COST_NOTHING),
        ([], line("C2", HEART, -1), Reason.NEVER_SOLD),
        ([line("1", HEART, 6, customer="1")], line("C2", HEART, -1), Reason.NEVER_SOLD),
        ([line("1", HEART, 6, price="2.95")], line("C2", HEART, -1), Reason.OTHER_PRICE),
        ([line("A1", "B", 1, price="2.55")], line("C2", "B", -1), Reason.NO_GOODS),
    ],
)
def test_what_is_no_order_does_not_come_back(match: Match, sold: list[str], credited: str, reason: Reason) -> None:
    (credit,) = match(*sold, credited)
    assert credit.returns == {}
    assert missing(credit) == [{reason: 1}]


def test_a_sale_after_the_credit_is_not_what_it_is_about(match: Match) -> None:
    (credit,) = match(line("C1", HEART, -1), line("2", HEART, 6))
    assert missing(credit) == [{Reason.NEVER_SOLD: 1}]


def test_more_than_was_sold_comes_back_as_far_as_it_was_sold(match: Match) -> None:
    (credit,) = match(line("1", HEART, 6), line("C2", HEART, -8))
    assert returns(credit) == {order_of("1"): [(1, 6)]}
    assert missing(credit) == [{Reason.MORE_THAN_SOLD: 2}]


@pytest.mark.parametrize(("state", "reason"), [(Status.CANCELLED, Reason.ORDER_CANCELLED), (None, Reason.NOT_IMPORTED)])
def test_nothing_comes_back_of_an_order_that_holds_nothing(match: Match, state: Status | None, reason: Reason) -> None:
    (credit,) = match(line("1", HEART, 3), line("2", HEART, 6), line("C3", HEART, -5), order2=state)
    assert returns(credit) == {order_of("1"): [(1, 3)]}
    assert missing(credit) == [{reason: 2}]
    assert [each.found for each in credit.lines] == [5]


def test_what_somebody_else_brought_back_is_not_there_any_more(match: Match) -> None:
    (credit,) = match(
        line("1", HEART, 6), line("C2", HEART, -4), returned=[back("by hand", "1", number=1, sku=HEART, quantity=3)]
    )
    assert returns(credit) == {order_of("1"): [(1, 3)]}
    assert missing(credit) == [{Reason.RETURNED_BEFORE: 1}]


def test_what_a_credit_brought_back_stays_though_a_better_order_has_been_imported_since(match: Match) -> None:
    lines = (line("1", HEART, 6), line("2", HEART, 6), line("2", LANTERN, 6), line("C3", HEART, -4))
    (before,) = match(*lines, order2=None)
    assert returns(before) == {order_of("1"): [(1, 4)]}

    again, other = match(
        *lines,
        line("C3", LANTERN, -4),
        line("C4", HEART, -3),
        returned=[back("C3", "1", number=1, sku=HEART, quantity=4)],
    )
    assert again.registered
    assert returns(again) == returns(before)
    assert missing(again)[0] == {}
    assert returns(other) == {order_of("2"): [(1, 3)]}


def test_a_unit_costs_what_its_line_says(match: Match) -> None:
    (credit,) = match(line("1", HEART, 6, price="0.29"), line("C2", HEART, -3, price="0.29"))
    assert [(each.unit_price, each.pence(each.returned)) for each in credit.lines] == [(Decimal("0.29"), 87)]
