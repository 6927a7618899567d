"""One order's story in its events, for tests to tell."""

from __future__ import annotations

from uuid import UUID, uuid5

from eventing.money import Money
from inventory.events import (
    InventoryReservationFailed,
    InventoryReserved,
    ReservationLine,
    ReservationReleased,
    Shortage,
)
from orders.events import Line, OrderCancelled, OrderPlaced
from payments.events import (
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from shipping.events import ShipmentCancelled, ShipmentCreated


def pounds(text: str) -> Money:
    """An amount of British money: ``pounds("2.55")``."""
    return Money.parse(text, "GBP")


ORDER = UUID("0197a000-0000-7000-8000-000000000001")
CUSTOMER = UUID("0197a000-0000-7000-8000-000000000002")
PAYMENT = uuid5(ORDER, "payment")
SHIPMENT_ID = uuid5(ORDER, "shipment")

HEART, LANTERN = "85123A", "71053"
LINES = (
    Line(sku=HEART, description="White hanging heart T-light holder", quantity=6, unit_price=pounds("2.55")),
    Line(sku=LANTERN, description="White metal lantern", quantity=2, unit_price=pounds("3.39")),
    Line(sku=HEART, description="White hanging heart T-light holder", quantity=6, unit_price=pounds("2.55")),
)
TOTAL = pounds("37.38")
WANTED = (ReservationLine(sku=HEART, quantity=12), ReservationLine(sku=LANTERN, quantity=2))

PLACED = OrderPlaced(
    order_id=ORDER,
    customer_id=CUSTOMER,
    reference="536365",
    lines=LINES,
    total=TOTAL,
    payment_method="tok_visa",
)
CANCELLED = OrderCancelled(order_id=ORDER, reason="Changed my mind")
REQUESTED = PaymentRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, method="tok_visa")
PAID = PaymentCompleted(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, reference="ch_1")
DECLINED = PaymentFailed(payment_id=PAYMENT, order_id=ORDER, code="card_declined", message="Your card was declined.")
OWED = RefundRequested(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, charge="ch_1")
REFUNDED = PaymentRefunded(payment_id=PAYMENT, order_id=ORDER, amount=TOTAL, reference="re_1")
RESERVED = InventoryReserved(order_id=ORDER, lines=WANTED)
OUT_OF_STOCK = InventoryReservationFailed(order_id=ORDER, shortages=(Shortage(sku=LANTERN, wanted=2, available=1),))
RELEASED = ReservationReleased(order_id=ORDER)
SHIPMENT = ShipmentCreated(shipment_id=SHIPMENT_ID, order_id=ORDER, tracking_number="WB1")
SHIPMENT_CANCELLED = ShipmentCancelled(shipment_id=SHIPMENT_ID, order_id=ORDER, tracking_number="WB1")
