"""How the bank's events of before become those of today."""

from __future__ import annotations

from eventing.tests.bank.events import AccountClosed, AccountOpened
from eventing.upcasting import Payload, upcasts

LONG_AGO = "Nobody noted why."


@upcasts(AccountOpened, from_version=1)
def call_the_name_a_holder(payload: Payload) -> Payload:
    return {"account_id": payload["account_id"], "holder": payload["name"]}


@upcasts(AccountOpened, from_version=2)
def call_the_holder_an_owner(payload: Payload) -> Payload:
    return {"account_id": payload["account_id"], "owner": payload["holder"]}


@upcasts(AccountClosed, from_version=1)
def give_a_reason(payload: Payload) -> Payload:
    return payload | {"reason": LONG_AGO}
