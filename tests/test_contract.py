"""The API keeps to its own description, whatever it's asked: requests are made up from the description, good ones and
bad ones, and sent to the server that production runs."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.stack import MEMBERS
from tests.conftest import stacks
from tests.waiting import eventually


@schemathesis.check
def no_server_error(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Whatever is asked, it's no error of the server's. Not to show yet what somebody wants to see is none."""
    if response.status_code != 503 or response.json()["code"] != "projection-behind":
        not_a_server_error(context, response, case)


EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "12"))  # of each operation
CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ORDER = "01a20000-0000-7000-8000-0000000000c1"
KNOWN: dict[str, Any] = {"order_id": ORDER, "sku": "85123A", "name": "orders.OrderSummaries", "act": "pause"}
"""Parts of addresses that lead somewhere, half of the time: made-up ones hardly do."""

generator: Any = SchemaGenerator
schema = schemathesis.openapi.from_dict(generator().get_schema(request=None, public=True))


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a server, and the header of somebody who may do everything."""
    with stacks() as start:
        stack = start(members=MEMBERS, API_RATE="1000000", EVENTING_STREAM_SECONDS="0.2")
        made = "from django.contrib.auth.models import User; User.objects.create_superuser('root')"
        stack.manage("shell", "--no-imports", "-c", made)
        token = json.loads(stack.manage("create_api_token", "root", "--json", quiet=True).stdout)["token"]
        headers = {"Authorization": f"Bearer {token}"}
        heart = {"sku": "85123A", "description": "Heart", "list_price": {"amount": 255, "currency": "GBP"}}
        order = {"order_id": ORDER, "lines": [{"sku": "85123A", "quantity": 1}]}
        with httpx2.Client(base_url=f"{stack.address}/api/v1/", headers=headers) as client:
            for path, body in (("inventory/items", heart), ("inventory/items/85123A/receive", {"quantity": 1_000})):
                client.post(path, json=body, headers={"Idempotency-Key": path}).raise_for_status()
            assert eventually(
                lambda: client.post("orders", json=order, headers={"Idempotency-Key": "order"}).is_success
            )
            for number in range(3):  # commands, of which lists and one of them tell
                later = {"Idempotency-Key": f"later-{number}", "Prefer": "respond-async"}
                accepted = client.post("orders", json={"lines": order["lines"]}, headers=later).raise_for_status()
                KNOWN["command_id"] = accepted.json()["id"]
        yield stack.address, headers


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="CONTRACT_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_every_operation_keeps_to_its_description(case: Case[Any], api: tuple[str, dict[str, str]]) -> None:
    address, headers = api
    case.call_and_validate(base_url=address, headers=headers, checks=CHECKS, timeout=30)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [("Content-Length: 10000000000", 413, "body-too-large"), ("Transfer-Encoding: chunked", 411, "length-required")],
)
def test_a_body_that_nobody_wants_is_refused_before_it_is_sent(
    api: tuple[str, dict[str, str]], said: str, status: int, code: str
) -> None:
    address, _ = api
    url = urlsplit(address)
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        head = f"POST /api/v1/orders HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n{said}\r\n\r\n"
        connection.sendall(head.encode())
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["code"]) == (status, code)
        assert connection.recv(1) == b""  # the server hangs up


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Lead every other address somewhere."""
    if not path_parameters:
        return path_parameters
    known = {name: value for name, value in KNOWN.items() if name in path_parameters}
    return {**path_parameters, **known} if len(str(path_parameters)) % 2 else path_parameters
