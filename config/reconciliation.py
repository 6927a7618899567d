"""Do the books agree? The log with itself, and orders with the gateway's ledger, the stock and the carrier's books.

Only here, above all contexts, may one question look into several of them. Each question is a statement that finds
what is wrong; a sound system finds nothing. They are exact once everything has come to rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, LiteralString

import msgspec
from django.db import connection

from eventing.replay import projections, replay
from eventing.statements import run


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question: how many things are wrong, and the first few of them."""

    question: str
    wrong: int
    examples: list[str]


QUESTIONS: dict[str, LiteralString] = {
    "positions are dense from 1": """
        SELECT position, expected FROM (
            SELECT position, row_number() OVER (ORDER BY position) AS expected FROM eventing_log
        ) log WHERE position <> expected
    """,
    "every event has one position": """
        SELECT event.id FROM eventing_event event LEFT JOIN eventing_log log ON log.event_id = event.id
        WHERE log.position IS NULL
        UNION ALL
        SELECT log.event_id FROM eventing_log log LEFT JOIN eventing_event event ON log.event_id = event.id
        WHERE event.id IS NULL
    """,
    "versions are dense in each stream": """
        SELECT category, stream_id, count(*), max(version) FROM eventing_event
        GROUP BY category, stream_id HAVING count(*) <> max(version) OR min(version) <> 1
    """,
    "streams are in order in the log": """
        SELECT category, stream_id, version FROM (
            SELECT category, stream_id, version, position,
                lag(position) OVER (PARTITION BY category, stream_id ORDER BY version) AS before
            FROM eventing_event JOIN eventing_log ON event_id = eventing_event.id
        ) placed WHERE before > position
    """,
    "every subscription has seen everything": """
        SELECT subscription, partition, position FROM eventing_checkpoint
        WHERE position <> (SELECT coalesce(max(position), 0) FROM eventing_log)
    """,
    "nothing has failed or waits": """
        SELECT subscription, sequence, state, error FROM eventing_delivery WHERE state IN ('waiting', 'dead')
    """,
    "every order has ended": "SELECT order_id, status FROM orders_ordersummary WHERE status = 'placed'",
    "every saga has ended": """
        SELECT saga, key, state FROM eventing_saga WHERE state NOT IN ('COMPLETED', 'COMPENSATED')
    """,
    # A live order was paid exactly once and in full; a cancelled one not at all, or given back in full.
    "orders agree with the gateway's ledger": """
        SELECT order_id, orders.status, orders.total_minor, coalesce(taken, 0), coalesce(given, 0)
        FROM orders_ordersummary orders LEFT JOIN payments_paymentsummary payment USING (order_id)
        LEFT JOIN LATERAL (
            SELECT sum(amount_minor) FILTER (WHERE kind = 'charge') AS taken,
                sum(amount_minor) FILTER (WHERE kind = 'refund') AS given
            FROM payments_gatewayentry
            WHERE outcome = 'succeeded' AND key IN (payment_id::text, payment_id::text || '-refund')
        ) ledger ON true
        WHERE coalesce(taken, 0) - coalesce(given, 0)
            <> CASE orders.status WHEN 'cancelled' THEN 0 ELSE orders.total_minor END
            OR coalesce(taken, 0) NOT IN (0, orders.total_minor)
    """,
    "the gateway has taken nothing that no payment asked for": """
        SELECT key, kind, amount_minor FROM payments_gatewayentry entry WHERE NOT EXISTS (
            SELECT FROM payments_paymentsummary payment
            WHERE entry.key IN (payment.payment_id::text, payment.payment_id::text || '-refund')
        )
    """,
    "orders agree with the stock that is reserved": """
        SELECT sku, coalesce(level.reserved, 0), coalesce(wanted.units, 0)
        FROM (
            SELECT sku, sum(quantity) AS units FROM orders_orderline JOIN orders_ordersummary USING (order_id)
            WHERE status = 'confirmed' GROUP BY sku
        ) wanted FULL JOIN inventory_stocklevel level USING (sku)
        WHERE coalesce(level.reserved, 0) <> coalesce(wanted.units, 0)
    """,
    "stock is what was received less what was shipped": """
        SELECT sku, level.on_hand, moved.units FROM inventory_stocklevel level LEFT JOIN (
            SELECT stream_id AS sku, sum((data ->> 'quantity')::bigint * CASE type
                WHEN 'inventory.stock_received' THEN 1 WHEN 'inventory.stock_shipped' THEN -1 ELSE 0 END) AS units
            FROM eventing_event WHERE category = 'stock' GROUP BY stream_id
        ) moved USING (sku)
        WHERE level.on_hand <> coalesce(moved.units, 0)
    """,
    "orders agree with the carrier's books": """
        SELECT order_id, orders.status, count(consignment.key)
        FROM orders_ordersummary orders LEFT JOIN shipping_shipmentsummary shipment USING (order_id)
        LEFT JOIN shipping_consignment consignment
            ON consignment.tracking_number = shipment.tracking_number AND consignment.voided_at IS NULL
        GROUP BY order_id, orders.status
        HAVING count(consignment.key) <> CASE orders.status WHEN 'cancelled' THEN 0 ELSE 1 END
    """,
    "the carrier holds nothing that no shipment asked for": """
        SELECT tracking_number FROM shipping_consignment consignment
        WHERE voided_at IS NULL AND NOT EXISTS (
            SELECT FROM shipping_shipmentsummary shipment
            WHERE shipment.tracking_number = consignment.tracking_number
        )
    """,
}

EXAMPLES = 5


def reconcile() -> Iterator[Finding]:
    """Ask every question."""
    for question, statement in QUESTIONS.items():
        rows = run(statement)
        yield Finding(
            question=question,
            wrong=len(rows),
            examples=[", ".join(str(value) for value in row) for row in rows[:EXAMPLES]],
        )


def replayed_equal() -> Iterator[Finding]:
    """Rebuild each read model in place, and compare what it holds then with what it held before."""
    for projection in projections():
        table = projection.projection.model._meta.db_table
        before = fingerprint(table)
        for _ in replay(projection):
            pass
        after = fingerprint(table)
        yield Finding(
            question=f"{projection.name} is the same when it's replayed",
            wrong=int(before != after),
            examples=[] if before == after else [f"{before} before, {after} after"],
        )


def fingerprint(table: str) -> str:
    """The number of rows of a table, and a hash of all that is in them, whatever their order. A key that the table
    itself numbers isn't compared: it says when a row was written, not what is in it."""
    digest, count = sha256(), 0
    with connection.cursor() as cursor:
        name = connection.ops.quote_name(table)
        cursor.execute(f"SELECT to_jsonb({name}) - 'id' FROM {name} ORDER BY (to_jsonb({name}) - 'id')::text")
        for (row,) in cursor:
            digest.update(_text(row))
            count += 1
    return f"{count} rows, {digest.hexdigest()[:12]}"


def _text(row: Any) -> bytes:
    return row.encode() if isinstance(row, str) else msgspec.json.encode(row)
