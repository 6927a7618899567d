from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from django.db import connection

from eventing import store
from eventing.handlers import dispatch
from inventory.aggregates import Reservation, StockItem
from inventory.commands import ListStockItem, ReceiveStock, ReleaseReservation, ReserveInventory
from inventory.events import ReservationLine
from tests.builders import HEART, LANTERN, pounds

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS = 50


def at_once(function: Callable[[UUID], None], orders: list[UUID]) -> None:
    """Call a function for each order, on a worker of its own. Raises what any of them raises."""

    def call(order: UUID) -> None:
        try:
            function(order)
        finally:
            connection.close()

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(call, orders))


def list_stock(sku: str, quantity: int) -> None:
    dispatch(ListStockItem(sku=sku, description="", list_price=pounds("1")))
    dispatch(ReceiveStock(sku=sku, quantity=quantity))


def reserve(order: UUID, *skus: str) -> None:
    dispatch(ReserveInventory(order_id=order, lines=tuple(ReservationLine(sku=sku, quantity=1) for sku in skus)))


def answers(orders: list[UUID]) -> Counter[str]:
    return Counter(store.load(Reservation, order).status.value for order in orders)


def test_fifty_workers_on_one_article_sell_all_of_it_and_no_more() -> None:
    list_stock(HEART, 60)
    orders = [uuid4() for _ in range(100)]
    at_once(lambda order: reserve(order, HEART), orders)
    assert answers(orders) == {"reserved": 60, "failed": 40}
    assert store.load(StockItem, HEART).available == 0


def test_orders_that_want_the_same_articles_in_any_order_do_not_wait_in_a_circle() -> None:
    list_stock(HEART, 100)
    list_stock(LANTERN, 100)
    orders = [uuid4() for _ in range(100)]
    at_once(
        lambda order: reserve(order, *((HEART, LANTERN) if order.int % 2 else (LANTERN, HEART))),
        orders,
    )
    assert answers(orders) == {"reserved": 100}


def test_a_release_and_a_reservation_of_one_order_at_once_leave_nothing_held() -> None:
    list_stock(HEART, 100)
    orders = [uuid4() for _ in range(25)]

    def reserve_or_release(turn: UUID) -> None:
        order = UUID(int=turn.int & ~1)
        if turn.int & 1:
            dispatch(ReleaseReservation(order_id=order))
        else:
            reserve(order, HEART)

    pairs = [UUID(int=order.int & ~1 | turn) for order in orders for turn in (0, 1)]
    at_once(reserve_or_release, pairs)
    assert answers([UUID(int=order.int & ~1) for order in orders]) == {"released": 25}
    assert store.load(StockItem, HEART).available == 100
