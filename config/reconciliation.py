"""Do the books agree? The log with itself, and orders with the gateway's ledger, the stock and the carrier's books.

Only here, above all contexts, may one question look into several of them. Each of its own questions is a statement that
finds what is wrong; a sound system finds nothing. They are exact once everything has come to rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import msgspec
from django.conf import settings

from eventing.replay import Failed, comparison_of, projections, rebuild
from eventing.statements import run
from eventing.verification import Check, Verification


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question: how many things are wrong, and the first few of them."""

    question: str
    wrong: int
    examples: list[str]


QUESTIONS: dict[str, LiteralString] = {
    "every event has been relayed": "SELECT event_id, type FROM eventing_outbox",
    "every subscription has seen everything": """
        SELECT subscription, partition, position FROM eventing_checkpoint
        WHERE position <> (SELECT coalesce(max(position), 0) FROM eventing_log)
    """,
    "nothing has failed or waits": """
        SELECT subscription, sequence, state, error FROM eventing_delivery WHERE state IN ('waiting', 'dead')
    """,
    "all that was told by webhooks is understood": """
        SELECT source, provider, event_id, state, error FROM eventing_inbox WHERE state <> 'done'
    """,
    "every order has ended": "SELECT order_id, status FROM orders_ordersummary WHERE status = 'placed'",
    "every saga has ended": """
        SELECT saga, key, state FROM eventing_saga WHERE state NOT IN ('COMPLETED', 'COMPENSATED')
    """,
    # A live order was paid exactly once and in full, and what came back of it was given back, and what somebody gave
    # back of their own accord; a cancelled one was not paid at all, or given back in full.
    "orders agree with the gateway's ledger": """
        SELECT order_id, orders.status, orders.total_minor, orders.refunded_minor, goodwill, taken, given
        FROM orders_ordersummary orders LEFT JOIN payments_paymentsummary payment USING (order_id)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(amount_minor) FILTER (WHERE kind = 'charge'), 0) AS taken,
                coalesce(sum(amount_minor) FILTER (WHERE kind = 'refund'), 0) AS given
            FROM payments_gatewayentry entry
            WHERE outcome = 'succeeded' AND (
                entry.key = payment_id::text OR kind = 'refund' AND entry.charge = payment.charge_reference
            )
        ) ledger
        CROSS JOIN LATERAL (
            SELECT coalesce(sum((data #>> '{amount,minor}')::bigint), 0) AS goodwill FROM eventing_event
            WHERE category = 'payment' AND stream_id = payment_id::text
                AND type = 'payments.refund_requested' AND data ->> 'reason' <> ''
        ) given_away
        WHERE taken - given <> CASE orders.status
                WHEN 'cancelled' THEN 0 ELSE orders.total_minor - orders.refunded_minor - goodwill END
            OR taken NOT IN (0, orders.total_minor)
    """,
    "the gateway has taken nothing that no payment asked for": """
        SELECT key, amount_minor FROM payments_gatewayentry entry WHERE kind = 'charge' AND NOT EXISTS (
            SELECT FROM payments_paymentsummary payment WHERE entry.key = payment.payment_id::text
        )
    """,
    "refunds agree with the gateway's ledger, one by one": """
        SELECT reference, ours.payment_id, ours.amount_minor, theirs.key, theirs.amount_minor
        FROM (SELECT * FROM payments_refund WHERE reference <> '') ours
        FULL JOIN (SELECT * FROM payments_gatewayentry WHERE kind = 'refund') theirs USING (reference)
        WHERE (ours.amount_minor, ours.currency) IS DISTINCT FROM (theirs.amount_minor, theirs.currency)
    """,
    "no more was given back than was paid": """
        SELECT payment_id, amount_minor, refunded_minor, refunding_minor, given
        FROM payments_paymentsummary payment CROSS JOIN LATERAL (
            SELECT coalesce(sum(amount_minor), 0) AS given FROM payments_refund refund
            WHERE refund.payment_id = payment.payment_id
        ) refunds
        WHERE refunded_minor <> given OR refunding_minor <> 0 OR given > amount_minor
    """,
    "what came back was paid back, once": """
        SELECT order_id, returned.return_id, returned.refund_minor, refund.amount_minor
        FROM (SELECT * FROM orders_return WHERE refund_minor <> 0) returned
        FULL JOIN (
            SELECT *, refund_id AS return_id FROM payments_refund WHERE refund_id IS NOT NULL AND refund_id NOT IN (
                SELECT (data ->> 'refund_id')::uuid FROM eventing_event
                WHERE type = 'payments.refund_requested' AND data ->> 'reason' <> '' AND data ->> 'refund_id' <> ''
            )
        ) refund USING (order_id, return_id)
        WHERE returned.refund_minor IS DISTINCT FROM refund.amount_minor
    """,
    "no more came back than was shipped": """
        SELECT order_id, number, orders.status, line.quantity, back.units
        FROM (
            SELECT order_id, number, sum(quantity) AS units FROM orders_returnedline GROUP BY order_id, number
        ) back
        LEFT JOIN orders_orderline line USING (order_id, number) LEFT JOIN orders_ordersummary orders USING (order_id)
        WHERE (orders.status IN ('shipped', 'delivered') AND back.units <= line.quantity) IS NOT TRUE
    """,
    "what came back was received again, once": """
        SELECT reference, sku, back.units, received.units
        FROM (
            SELECT format('return %s of order %s', return_id, order_id) AS reference, sku, sum(quantity) AS units
            FROM orders_returnedline GROUP BY order_id, return_id, sku
        ) back
        FULL JOIN (
            SELECT data ->> 'reference' AS reference, stream_id AS sku, sum((data ->> 'quantity')::bigint) AS units
            FROM eventing_event
            WHERE category = 'stock' AND type = 'inventory.stock_received' AND actor = 'inventory.take_stock_back'
            GROUP BY data ->> 'reference', stream_id
        ) received USING (reference, sku)
        WHERE back.units IS DISTINCT FROM received.units
    """,
    "orders agree with the stock that is reserved": """
        SELECT sku, coalesce(level.reserved, 0), coalesce(wanted.units, 0)
        FROM (
            SELECT sku, sum(quantity) AS units FROM orders_orderline JOIN orders_ordersummary USING (order_id)
            WHERE status = 'confirmed' GROUP BY sku
        ) wanted FULL JOIN inventory_stocklevel level USING (sku)
        WHERE coalesce(level.reserved, 0) <> coalesce(wanted.units, 0)
    """,
    "stock is what was received and counted, less what was shipped": """
        SELECT sku, level.on_hand, moved.units FROM inventory_stocklevel level LEFT JOIN (
            SELECT stream_id AS sku, sum(CASE type
                WHEN 'inventory.stock_received' THEN (data ->> 'quantity')::bigint
                WHEN 'inventory.stock_adjusted' THEN (data ->> 'change')::bigint
                WHEN 'inventory.stock_shipped' THEN -(data ->> 'quantity')::bigint ELSE 0 END) AS units
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
LEDGER = "payments_gatewayentry"


def reconcile() -> Iterator[Finding]:
    """Ask every question, those about the log first. The simulator's ledger bears witness only where it's in use."""
    yield from _log_verified()
    for question, statement in QUESTIONS.items():
        if LEDGER in statement and settings.PAYMENT_GATEWAY != "simulated":
            continue
        rows = run(statement)
        yield Finding(
            question=question,
            wrong=len(rows),
            examples=[", ".join(str(value) for value in row) for row in rows[:EXAMPLES]],
        )


def _log_verified() -> Iterator[Finding]:
    verification = Verification()
    for _ in verification.steps():
        pass
    for answer in verification.findings():
        if answer.check not in (Check.EXPECTED, Check.SNAPSHOTS):  # nobody asked
            examples = [str(each) for each in answer.first[:EXAMPLES]]
            yield Finding(question=answer.question, wrong=answer.count, examples=examples)


def replayed_equal() -> Iterator[Finding]:
    """Rebuild each read model beside the live one, and compare the two. The live one stays."""
    for projection in projections():
        question = f"{projection.name} is the same when it's replayed"
        try:
            comparison = comparison_of(rebuild(projection, verify_only=True))
        except Failed as error:
            yield Finding(question=question, wrong=1, examples=[str(error)])
            continue
        differences = comparison.differences[:EXAMPLES] if comparison else []
        yield Finding(
            question=question,
            wrong=comparison.different if comparison else 1,
            examples=[f"{each.key}: {each.live} live, {each.rebuilt} rebuilt" for each in differences],
        )
