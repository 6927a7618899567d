from __future__ import annotations

from typing import Any

import pytest

from eventing.domain import Rejected
from eventing.money import Money
from inventory.aggregates import Reservation, StockItem
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationCommitted,
    ReservationLine,
    ReservationReleased,
    Shortage,
    StockItemListed,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShipped,
)
from tests.builders import HEART, LANTERN, ORDER, WANTED, pounds


def stock(**on_hand: int) -> dict[str, StockItem]:
    """Articles with so many units each, all available."""
    items = {HEART: StockItem(HEART), LANTERN: StockItem(LANTERN)}
    for item, quantity in zip(items.values(), (on_hand["hearts"], on_hand["lanterns"]), strict=True):
        item.apply(StockItemListed(sku=item.id, description="", list_price=pounds("1")))
        item.apply(StockReceived(sku=item.id, quantity=quantity, reference=""))
    return items


def levels(items: dict[str, StockItem]) -> list[tuple[int, int, int]]:
    return [(item.on_hand, item.reserved, item.available) for item in items.values()]


def recorded(items: dict[str, StockItem]) -> list[Any]:
    return [event for item in items.values() for event in item.recorded]


def test_an_article_is_listed_with_description_and_price() -> None:
    item = StockItem(HEART)
    item.list("White hanging heart", pounds("2.55"))
    item.list("White hanging heart", pounds("2.55"))
    assert item.recorded == [StockItemListed(sku=HEART, description="White hanging heart", list_price=pounds("2.55"))]


def test_a_listed_article_can_get_another_price() -> None:
    item = StockItem(HEART)
    item.list("White hanging heart", pounds("2.55"))
    item.list("White hanging heart", pounds("2.95"))
    assert item.list_price == pounds("2.95")


@pytest.mark.parametrize(
    ("sku", "price", "complaint"),
    [
        ("", pounds("1"), "The SKU is missing"),
        ("x" * 65, pounds("1"), "The SKU has 65 characters; 64 is the most"),
        (HEART, pounds("-1"), "A list price is 0 to"),
        (HEART, Money(minor=2**63, currency="GBP"), "A list price is 0 to"),
        (HEART, Money(minor=1, currency="ZZZ"), "'ZZZ' is not a currency"),
    ],
)
def test_an_article_that_makes_no_sense_is_refused(sku: str, price: Money, complaint: str) -> None:
    with pytest.raises(Rejected, match=complaint):
        StockItem(sku).list("", price)


def test_stock_is_received_of_what_is_listed() -> None:
    with pytest.raises(Rejected, match="isn't listed"):
        StockItem(HEART).receive(1, "")


@pytest.mark.parametrize("quantity", [0, -1, 1_000_000_000_000])
def test_a_quantity_that_makes_no_sense_is_refused(quantity: int) -> None:
    with pytest.raises(Rejected):
        stock(hearts=1, lanterns=1)[HEART].receive(quantity, "")


def test_a_delivery_with_a_name_is_received_once() -> None:
    item = stock(hearts=1, lanterns=1)[HEART]
    for reference in ("note 1", "note 1", "note 2", "", ""):
        item.receive(10, reference)
    assert item.on_hand == 41


def test_a_count_of_a_delivery_may_have_its_name() -> None:
    item = stock(hearts=1, lanterns=1)[HEART]
    item.receive(10, "note 1")
    for _ in range(2):
        item.adjust(-3, "3 of these were broken", "note 1")
    item.receive(10, "note 1")
    item.adjust(2, "Found", "count 1")
    item.receive(5, "count 1")
    assert item.on_hand == 1 + 10 - 3 + 2 + 5


def test_all_lines_are_reserved_and_those_of_one_article_are_added_up() -> None:
    items = stock(hearts=12, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(
        [
            ReservationLine(sku=HEART, quantity=6),
            ReservationLine(sku=LANTERN, quantity=2),
            ReservationLine(sku=HEART, quantity=6),
        ],
        items,
    )
    assert reservation.recorded == [InventoryReserved(order_id=ORDER, lines=WANTED)]
    assert recorded(items) == [
        StockReserved(sku=HEART, order_id=ORDER, quantity=12),
        StockReserved(sku=LANTERN, order_id=ORDER, quantity=2),
    ]
    assert levels(items) == [(12, 12, 0), (5, 2, 3)]


def test_when_one_article_is_short_none_is_reserved() -> None:
    items = stock(hearts=11, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    assert reservation.recorded == [
        InventoryReservationFailed(order_id=ORDER, shortages=(Shortage(sku=HEART, wanted=12, available=11),))
    ]
    assert recorded(items) == []


def test_asked_twice_to_reserve_it_answers_once() -> None:
    items = stock(hearts=24, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    reservation.reserve(WANTED, items)
    assert levels(items) == [(24, 12, 12), (5, 2, 3)]
    assert len(reservation.recorded) == 1


def test_a_failed_reservation_stays_failed_when_stock_comes_in() -> None:
    items = stock(hearts=1, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    items[HEART].receive(100, "")
    reservation.reserve(WANTED, items)
    assert len(reservation.recorded) == 1


@pytest.mark.parametrize("lines", [[], [ReservationLine(sku=HEART, quantity=0)]])
def test_a_reservation_of_nothing_is_refused(lines: list[ReservationLine]) -> None:
    with pytest.raises(Rejected):
        Reservation(ORDER).reserve(lines, stock(hearts=1, lanterns=1))


def test_what_is_released_is_available_again_once() -> None:
    items = stock(hearts=12, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    reservation.release(items)
    reservation.release(items)
    assert levels(items) == [(12, 0, 12), (5, 0, 5)]
    assert reservation.recorded[1:] == [ReservationReleased(order_id=ORDER)]
    assert items[HEART].recorded[-1] == StockReleased(sku=HEART, order_id=ORDER, quantity=12)


def test_a_release_that_overtakes_the_request_lets_it_hold_nothing() -> None:
    items = stock(hearts=12, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.release(items)
    reservation.reserve(WANTED, items)
    assert reservation.recorded == [ReservationReleased(order_id=ORDER)]
    assert levels(items) == [(12, 0, 12), (5, 0, 5)]


def test_a_failed_reservation_has_nothing_to_release() -> None:
    items = stock(hearts=0, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    reservation.release(items)
    assert len(reservation.recorded) == 1


def test_what_is_shipped_leaves_the_house_once() -> None:
    items = stock(hearts=12, lanterns=5)
    reservation = Reservation(ORDER)
    reservation.reserve(WANTED, items)
    reservation.commit(items)
    reservation.commit(items)
    assert levels(items) == [(0, 0, 0), (3, 0, 3)]
    assert reservation.recorded[1:] == [ReservationCommitted(order_id=ORDER)]
    assert items[HEART].recorded[-1] == StockShipped(sku=HEART, order_id=ORDER, quantity=12)


def test_nothing_is_shipped_that_is_not_reserved_nor_released_that_is_shipped() -> None:
    items = stock(hearts=12, lanterns=5)
    reservation = Reservation(ORDER)
    with pytest.raises(Rejected, match="Nothing is reserved"):
        reservation.commit(items)
    reservation.reserve(WANTED, items)
    reservation.commit(items)
    with pytest.raises(Rejected, match="has been shipped, and can't be released"):
        reservation.release(items)


def test_an_article_never_promises_more_than_there_is() -> None:
    with pytest.raises(Rejected, match="has 12 units available, not 13"):
        stock(hearts=12, lanterns=5)[HEART].reserve(ORDER, 13)
