from __future__ import annotations

import pytest
from django.db import connection

from config.reconciliation import reconcile
from eventing.handlers import dispatch
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from tests.builders import HEART, pounds

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
