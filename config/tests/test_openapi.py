from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client


def test_the_api_is_described_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


@pytest.fixture
def schema(client: Client) -> Any:
    return client.get("/api/v1/schema", headers={"Accept": "application/json"}).json()


def test_the_description_is_openapi_3_1(schema: Any) -> None:
    assert schema["openapi"].startswith("3.1")


def test_every_operation_may_answer_with_a_problem_and_has_a_name(schema: Any) -> None:
    operations = [operation for path in schema["paths"].values() for operation in path.values()]

    assert {operation["responses"]["default"]["$ref"] for operation in operations} == {"#/components/responses/Problem"}
    assert sorted(operation["operationId"] for operation in operations) == [
        "act_on_replay",
        "act_on_subscription",
        "adjust_stock",
        "cancel_letter_job",
        "cancel_order",
        "change_webhook_endpoint",
        "delete_webhook_endpoint",
        "follow_log",
        "follow_order",
        "get_availability",
        "get_command",
        "get_letter",
        "get_letter_group",
        "get_letter_job",
        "get_order",
        "get_order_history",
        "get_payment",
        "get_refund",
        "get_replay",
        "get_saga",
        "get_shipment",
        "get_stock_item",
        "get_subscription",
        "get_webhook_endpoint",
        "hear_from_carrier",
        "hear_from_gateway",
        "list_commands",
        "list_letter_groups",
        "list_letter_jobs",
        "list_letter_outcomes",
        "list_letters",
        "list_orders",
        "list_payments",
        "list_replays",
        "list_sagas",
        "list_shipments",
        "list_stock_item",
        "list_stock_items",
        "list_subscriptions",
        "list_webhook_deliveries",
        "list_webhook_endpoints",
        "place_order",
        "place_orders",
        "receive_stock",
        "refund_payment",
        "register_webhook_endpoint",
        "replay_webhooks",
        "resume_saga",
        "retry_letter",
        "retry_sequence",
        "retry_webhook_delivery",
        "return_items",
        "rotate_webhook_secret",
        "set_list_price",
        "skip_letter",
        "skip_letters",
        "skip_webhook_delivery",
        "start_letter_job",
        "start_replay",
        "test_webhook_endpoint",
    ]


def test_the_bounds_of_an_order_are_described(schema: Any) -> None:
    schemas = schema["components"]["schemas"]

    assert schemas["PlaceOrder"]["properties"]["lines"]["maxItems"] == 5000
    assert schemas["Line"]["properties"]["quantity"]["maximum"] == 1_000_000
    assert schemas["Money"]["properties"]["amount"]["maximum"] == 2**53 - 1
    assert schemas["Money"]["properties"]["amount"]["type"] == "integer"


def test_the_documentation_works_offline(client: Client) -> None:
    page = client.get("/api/v1/docs").content.decode()
    wanted = re.findall(r'(?:href|src)="([^"]+)"', page)

    assert len(wanted) >= 3
    for address in wanted:
        assert address.startswith("/static/")
        assert finders.find(address.removeprefix("/static/"))
    assert "http://" not in page
    assert "https://" not in page
