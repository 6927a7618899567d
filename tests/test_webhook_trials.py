"""Endpoints are tried out over a real server, which goes on answering everybody else meanwhile."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from uuid import uuid4

import httpx2

from eventing.webhooks.api import TRIALS
from tests.conftest import StackStarter
from tests.waiting import eventually

ACCOUNTS = 8  # whose trials are more than the pool has connections
MAKE_ACCOUNTS = f"""
import json
from django.contrib.auth.models import Permission, User
from knox.models import AuthToken
users = [User.objects.create_user(f"shop-{{number}}") for number in range({ACCOUNTS})]
for user in users:
    user.user_permissions.set(Permission.objects.filter(codename="manage_webhooks"))
print(json.dumps([AuthToken.objects.create(user)[1] for user in users]))
"""


def test_endpoints_that_never_answer_a_trial_keep_no_connection_to_the_database(start_stack: StackStarter) -> None:
    locally = {"WEBHOOK_INSECURE": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "WEBHOOK_SECONDS": "60"}
    stack = start_stack(members=("web",), **locally)
    tokens = json.loads(stack.manage("shell", "-v", "0", "-c", MAKE_ACCOUNTS, quiet=True).stdout)
    address = f"{stack.address}/api/v1/webhook-endpoints"
    taken: list[socket.socket] = []

    def post(path: str, token: str, body: object = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        return httpx2.post(f"{address}{path}", json=body, headers=headers, timeout=60)

    with (
        ThreadPoolExecutor(ACCOUNTS * TRIALS) as pool,
        socket.create_server(("127.0.0.1", 0), backlog=100) as silent,
        ExitStack() as connections,
    ):
        silent.settimeout(0.1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        made = [post("", token, {"url": url}).json()["id"] for token in tokens]
        asked = list(zip(made, tokens, strict=True)) * TRIALS
        trials = [pool.submit(post, f"/{endpoint}/test", token) for endpoint, token in asked]

        def all_are_under_way() -> bool:
            with suppress(TimeoutError):
                taken.append(connections.enter_context(silent.accept()[0]))
            return len(taken) == len(asked)

        assert eventually(all_are_under_way), len(taken)
        others = httpx2.get(address, headers={"Authorization": f"Bearer {tokens[0]}"}, timeout=5)
        assert others.status_code == 200
        connections.close()
        assert {trial.result(timeout=60).status_code for trial in trials} == {200}
