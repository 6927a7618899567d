from __future__ import annotations

from uuid import UUID

from celery import shared_task

from eventing.tests.bank.customers import pays_in


@shared_task(name="bank.pay_in")
def pay_in(account_id: str, amount: int) -> None:
    pays_in(UUID(account_id), amount)
