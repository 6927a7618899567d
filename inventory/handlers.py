"""Many orders want the same articles, and each wants several: so whoever writes stock queues for it first."""

from __future__ import annotations

from collections.abc import Iterator

from eventing import store
from eventing.handlers import Target, handles
from inventory.aggregates import Reservation, StockItem
from inventory.commands import (
    AdjustStock,
    CommitReservation,
    ListStockItem,
    ReceiveStock,
    ReleaseReservation,
    ReserveInventory,
    SetListPrice,
)


def article(command: ListStockItem | SetListPrice | ReceiveStock | AdjustStock) -> Iterator[Target]:
    """The one article."""
    yield StockItem, command.sku


def wanted_stock(command: ReserveInventory) -> Iterator[Target]:
    """The articles that an order wants."""
    for line in command.lines:
        yield StockItem, line.sku


def held_stock(command: ReleaseReservation | CommitReservation) -> Iterator[Target]:
    """The articles that are held for an order. Should they be reserved at this very moment, the version checks
    find out, and the command is tried again."""
    for sku in store.load(Reservation, command.order_id).skus:
        yield StockItem, sku


@handles(locks=article)
def list_stock_item(command: ListStockItem) -> None:
    with store.edit(StockItem, command.sku) as item:
        item.list(command.description, command.list_price)


@handles(locks=article)
def set_list_price(command: SetListPrice) -> None:
    with store.edit(StockItem, command.sku) as item:
        item.set_price(command.list_price)


@handles(locks=article)
def receive_stock(command: ReceiveStock) -> None:
    with store.edit(StockItem, command.sku) as item:
        item.receive(command.quantity, command.reference)


@handles(locks=article)
def adjust_stock(command: AdjustStock) -> None:
    with store.edit(StockItem, command.sku) as item:
        item.adjust(command.change, command.reason, command.reference)


@handles(locks=wanted_stock)
def reserve_inventory(command: ReserveInventory) -> None:
    skus = [line.sku for line in command.lines]
    with (
        store.edit(Reservation, command.order_id) as reservation,
        store.edit_all(StockItem, skus) as stock,
    ):
        reservation.reserve(command.lines, stock)


@handles(locks=held_stock)
def release_reservation(command: ReleaseReservation) -> None:
    with (
        store.edit(Reservation, command.order_id) as reservation,
        store.edit_all(StockItem, reservation.skus) as stock,
    ):
        reservation.release(stock)


@handles(locks=held_stock)
def commit_reservation(command: CommitReservation) -> None:
    with (
        store.edit(Reservation, command.order_id) as reservation,
        store.edit_all(StockItem, reservation.skus) as stock,
    ):
        reservation.commit(stock)
