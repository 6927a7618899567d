from __future__ import annotations

from eventing import store
from eventing.handlers import handles
from payments.aggregates import Payment
from payments.commands import ProcessPayment, RecordPayment, RecordRefund, RefundPart, RefundPayment


@handles
def process_payment(command: ProcessPayment) -> None:
    with store.edit(Payment, command.payment_id) as payment:
        payment.request(command.order_id, command.amount, command.method)


@handles
def record_payment(command: RecordPayment) -> None:
    with store.edit(Payment, command.payment_id) as payment:
        payment.settle(command.outcome)


@handles
def refund_payment(command: RefundPayment) -> None:
    with store.edit(Payment, command.payment_id) as payment:
        payment.refund()


@handles
def refund_part(command: RefundPart) -> None:
    with store.edit(Payment, command.payment_id) as payment:
        payment.refund_part(command.refund_id, command.amount, command.reason)


@handles
def record_refund(command: RecordRefund) -> None:
    with store.edit(Payment, command.payment_id) as payment:
        payment.record_refund(command.reference, command.refund_id)
