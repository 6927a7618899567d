from __future__ import annotations

import pytest
from django.db import connection, transaction

from config.reconciliation import reconcile
from eventing.handlers import dispatch
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import PlaceOrder, ReturnItems, ReturnLine
from shipping.commands import DispatchShipment
from tests.builders import HEART, LINES, ORDER, SHIPMENT_ID, pounds

pytestmark = pytest.mark.django_db(transaction=True)


def wrong() -> dict[str, int]:
    return {finding.question: finding.wrong for finding in reconcile() if finding.wrong}


def test_what_has_no_position_yet_is_named() -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    assert wrong()["every event has been relayed"] == 1
    settle()
    assert wrong() == {}


def test_what_verify_events_finds_is_found_here_too() -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    dispatch(ReceiveStock(sku=HEART, quantity=3))
    settle()
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE eventing_event SET actor = 'somebody else' WHERE version = 2")
        cursor.execute("SET session_replication_role = origin")
    assert wrong() == {"the hash chain is intact": 1}


SPOILT = {
    "DELETE FROM payments_gatewayentry WHERE kind = 'refund'": {
        "orders agree with the gateway's ledger",
        "refunds agree with the gateway's ledger, one by one",
    },
    "UPDATE payments_gatewayentry SET amount_minor = amount_minor + 1 WHERE kind = 'charge'": {
        "orders agree with the gateway's ledger",
    },
    "UPDATE payments_gatewayentry SET key = 'another' WHERE kind = 'charge'": {
        "orders agree with the gateway's ledger",
        "the gateway has taken nothing that no payment asked for",
    },
    "UPDATE payments_paymentsummary SET refunded_minor = 1531": {"no more was given back than was paid"},
    "DELETE FROM payments_refund": {
        "refunds agree with the gateway's ledger, one by one",
        "no more was given back than was paid",
        "what came back was paid back, once",
    },
    "UPDATE orders_return SET refund_minor = 1": {"what came back was paid back, once"},
    "UPDATE orders_returnedline SET quantity = 3": {"what came back was received again, once"},
    "UPDATE orders_returnedline SET quantity = 7": {
        "no more came back than was shipped",
        "what came back was received again, once",
    },
    "UPDATE orders_ordersummary SET status = 'confirmed'": {
        "no more came back than was shipped",
        "orders agree with the stock that is reserved",
    },
}


def test_what_came_back_is_followed_to_the_stock_and_to_the_gateway() -> None:
    dispatch(ListStockItem(sku=HEART, description="Heart", list_price=pounds("2.55")))
    dispatch(ReceiveStock(sku=HEART, quantity=6, reference="return of the hearts"))
    dispatch(PlaceOrder(order_id=ORDER, customer_id=None, lines=LINES[:1]))
    settle()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()
    line = ReturnLine(number=1, quantity=2)
    dispatch(ReturnItems(order_id=ORDER, return_id=ORDER, lines=(line,), reason="Too many"))
    settle()
    assert wrong() == {}
    for statement, found in SPOILT.items():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
            assert set(wrong()) == found, statement
            transaction.set_rollback(True)
