"""What a gateway and a carrier tell of their own accord, with real workers."""

from __future__ import annotations

import json

import httpx2

from config.stack import MEMBERS
from tests.conftest import StackStarter
from tests.waiting import eventually


def test_an_order_is_paid_and_delivered_by_what_others_tell(start_stack: StackStarter) -> None:
    stack = start_stack(members=MEMBERS, EVENTING_BACKOFF_SECONDS="0.1")
    made = "from django.contrib.auth.models import User; User.objects.create_superuser('root')"
    stack.manage("shell", "--no-imports", "-c", made, quiet=True)
    token = json.loads(stack.manage("create_api_token", "root", "--json", quiet=True).stdout)["token"]
    with httpx2.Client(base_url=f"{stack.address}/api/v1/", headers={"Authorization": f"Bearer {token}"}) as api:
        heart = {"sku": "85123A", "description": "Heart", "list_price": {"amount": 255, "currency": "GBP"}}
        listed = api.post("inventory/items", json=heart, headers={"Idempotency-Key": "a"})
        api.post("inventory/items/85123A/receive", json={"quantity": 5}, headers={"Idempotency-Key": "r"})
        seen = {"Consistency-Token": listed.headers["Consistency-Token"], "Prefer": "wait=10"}
        order = {"lines": [{"sku": "85123A", "quantity": 1}], "payment_method": "tok_webhook_only"}
        placed = api.post("orders", json=order, headers={"Idempotency-Key": "o", **seen})
        assert placed.status_code == 201, placed.text
        path = f"orders/{placed.json()['order_id']}"

        assert eventually(lambda: api.get(path).json()["status"] == "confirmed", seconds=60)
        (shipment,) = api.get("shipments", params={"order": placed.json()["order_id"]}).json()["results"]
        told = stack.manage("simulated_carrier", "delivered", shipment["tracking_number"], quiet=True)
        assert told.returncode == 0
        assert eventually(lambda: api.get(path).json()["status"] == "delivered", seconds=60)
