"""Live streams over real servers: what is placed is followed, whoever dies, and nobody follows what isn't theirs."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx2
import psycopg
import pytest

from config.stack import MEMBERS, Stack
from tests.conftest import StackStarter, stacks
from tests.listeners import Listener, Message
from tests.waiting import eventually

HEARTBEAT, LIFE, SEATS = 0.5, 6.0, 6
SETTINGS = {
    "EVENTING_STREAM_HEARTBEAT_SECONDS": str(HEARTBEAT),
    "EVENTING_STREAM_SECONDS": str(LIFE),
    "EVENTING_STREAMS": str(SEATS),
}
HEART = {"sku": "85123A", "quantity": 1, "unit_price": {"amount": 255, "currency": "GBP"}}
LISTED = {"sku": "85123A", "description": "A heart", "list_price": HEART["unit_price"]}
ORDER = {"lines": [HEART], "contact": {"name": "Ann Archer", "email": "ann@example.org"}}
MORE_THAN_THE_POOL_HAS = 30
GRACE = 10  # seconds after which the server cuts off what still goes on
WEB_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'waybill'"
WRITERS, ORDERS = 4, 50  # orders a writer
MAKE_ACCOUNTS = """
import json
from django.contrib.auth.models import Permission, User
from knox.models import AuthToken
tokens = {}
for name in ("ann", "ben", "shop", "clerk", "watcher", "counted"):
    user = User.objects.create_user(name)
    tokens[name] = AuthToken.objects.create(user)[1]
allow = lambda name, *codes: User.objects.get(username=name).user_permissions.set(
    Permission.objects.filter(codename__in=codes))
allow("shop", "add_ordersummary", "view_ordersummary", "change_stocklevel")
allow("clerk", "view_ordersummary")
allow("watcher", "view_storedevent")
allow("counted", "view_storedevent")
print(json.dumps(tokens))
"""


class Waybill(NamedTuple):
    """A running stack, and accounts in it."""

    stack: Stack
    tokens: dict[str, str]
    seen: dict[str, str]

    def api(self, path: str) -> str:
        return f"{self.stack.address}/api/v1/{path}"

    def ask(self, method: str, path: str, who: str, body: Any = None, **headers: str) -> httpx2.Response:
        known = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        known["Idempotency-Key"] = str(uuid4())
        return httpx2.request(method, self.api(path), json=body, headers={**known, **headers}, timeout=30)

    def place(self, who: str) -> str:
        answer = self.ask("POST", "orders", who, ORDER, **self.seen)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["order_id"])

    def listener(self, path: str, who: str, **options: Any) -> Listener:
        return Listener(self.api(path), self.tokens[who], **options)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.environ["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def log(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT position, type FROM eventing_log ORDER BY position")

    def web_workers(self) -> list[int]:
        """The processes that answer requests."""
        arbiter = self.stack.processes["web"].pid
        if arbiter is None:
            return []
        return [int(pid) for pid in Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()]


def started(stack: Stack) -> Waybill:
    made = stack.manage("shell", "-v", "0", "-c", MAKE_ACCOUNTS, quiet=True)
    waybill = Waybill(stack, json.loads(made.stdout), seen={})
    listed = waybill.ask("POST", "inventory/items", "shop", LISTED)
    received = waybill.ask("POST", "inventory/items/85123A/receive", "shop", {"quantity": 10_000})
    assert (listed.status_code, received.status_code) == (201, 200)
    # orders wait for their copy of it
    waybill.seen.update({"Consistency-Token": listed.headers["Consistency-Token"], "Prefer": "wait=10"})
    return waybill


@pytest.fixture(scope="module")
def waybill() -> Iterator[Waybill]:
    with stacks() as start:
        yield started(start(members=MEMBERS, **SETTINGS, WEB_CONCURRENCY="2"))


def follow_until(listener: Listener, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """What a listener gets until it has enough, coming back whenever the stream ends."""
    got: list[Message] = []
    deadline = time.monotonic() + 120
    while True:
        with listener.listening() as messages:
            for message in messages:
                if message is not None:
                    got.append(message)
                if enough(got):
                    return got
                assert time.monotonic() < deadline, got


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_order_is_followed_from_placed_to_confirmed(waybill: Waybill) -> None:
    order_id = waybill.place("ann")
    got = follow_until(
        waybill.listener(f"orders/{order_id}/stream", "ann"),
        lambda got: any(each.type == "orders.order_confirmed" for each in got),
    )

    assert got[0].type == "orders.order_placed"
    assert [message.data["version"] for message in got] == list(range(1, len(got) + 1))
    assert {message.data["stream"] for message in got} == {f"order-{order_id}"}
    history = waybill.ask("GET", f"orders/{order_id}/history", "ann").json()["results"]
    streamed = [{name: each for name, each in message.data.items() if name != "stream"} for message in got]
    assert streamed == history[: len(got)]
    assert got[0].data["data"]["contact"]["name"] == "Ann Archer"


def test_what_is_personal_is_hidden_from_those_who_may_not_see_it(waybill: Waybill) -> None:
    order_id = waybill.place("ann")
    for path, who in ((f"orders/{order_id}/stream", "clerk"), ("stream?types=orders.order_placed&after=0", "watcher")):
        (placed,) = follow_until(waybill.listener(path, who), lambda got: len(got) == 1)
        assert placed.data["data"]["contact"] == "[hidden]"


def test_everybody_gets_every_event_once_and_in_order_who_comes_and_goes(waybill: Waybill) -> None:
    begun_at = waybill.log()[-1][0] if waybill.log() else 0
    places = ("orders.order_placed", "")

    def listen(types: str) -> list[Message]:
        chance = random.Random(types)  # noqa: S311
        query = f"?types={types}" if types else ""
        listener, got = waybill.listener(f"stream{query}", "watcher", last=begun_at), list[Message]()
        while sum(message.type == "orders.order_placed" for message in got) < WRITERS * ORDERS:
            with listener.listening() as messages:
                stay = chance.randint(1, 60)
                for message in messages:
                    got += [message] if message is not None else []
                    if message is not None and (stay := stay - 1) == 0:
                        break
        return got

    with ThreadPoolExecutor() as pool:
        listening = [pool.submit(listen, types) for types in places]
        writing = [pool.submit(lambda: [waybill.place("shop") for _ in range(ORDERS)]) for _ in range(WRITERS)]
        placed = {order_id for each in writing for order_id in each.result()}
        of_one_type, of_all = (each.result(timeout=200) for each in listening)

    log = [(position, type) for position, type in waybill.log() if position > begun_at]
    assert [(message.id, message.type) for message in of_all] == log[: len(of_all)]
    assert [message.id for message in of_one_type] == [at for at, type in log if type == "orders.order_placed"]
    assert {message.data["stream"].removeprefix("order-") for message in of_one_type} == placed


def test_a_stream_on_one_web_process_shows_what_was_placed_through_the_other(waybill: Waybill) -> None:
    assert eventually(lambda: len(waybill.web_workers()) == 2)
    one, other = waybill.web_workers()
    with ThreadPoolExecutor() as pool:
        with stopped(other):
            listener = waybill.listener("stream?types=orders.order_placed", "watcher")
            seen: Future[list[Message]] = pool.submit(follow_until, listener, lambda got: len(got) == 1)
            assert eventually(lambda: listener.last is not None)
        with stopped(one):
            order_id = waybill.place("ann")
        (message,) = seen.result(timeout=60)
    assert message.data["stream"] == f"order-{order_id}"


def test_a_stream_shows_that_it_lives_and_ends_when_its_time_is_over(waybill: Waybill) -> None:
    order_id = waybill.place("ann")
    listener = waybill.listener(f"orders/{order_id}/stream", "ann")
    began = time.monotonic()
    with listener.listening() as messages:
        assert next(messages) is None
        for _ in messages:
            pass

    assert LIFE - 0.5 < time.monotonic() - began < LIFE + 3
    assert LIFE / HEARTBEAT / 2 < listener.comments <= LIFE / HEARTBEAT + 1


@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM knox_authtoken WHERE user_id = (SELECT id FROM auth_user WHERE username = %s)",
        "UPDATE auth_user SET is_active = false WHERE username = %s",
    ],
    ids=["the token is revoked", "the account is deactivated"],
)
def test_a_stream_ends_with_the_right_to_listen(waybill: Waybill, end: str) -> None:
    name = f"leaver-{len(end)}"
    made = waybill.stack.manage("shell", "-v", "0", "-c", MAKE_LEAVER.format(name=name), quiet=True)
    listener = Listener(waybill.api("stream"), made.stdout.strip())
    with listener.listening() as messages:
        assert next(messages) is None
        waybill.sql(end, name)
        left_at = time.monotonic()
        for _ in messages:
            pass

    assert time.monotonic() - left_at < 2 * HEARTBEAT + 1
    with pytest.raises(httpx2.HTTPStatusError, match="401"), listener.listening():
        pass


MAKE_LEAVER = """
from django.contrib.auth.models import Permission, User
from knox.models import AuthToken
user = User.objects.create_user("{name}")
user.user_permissions.set(Permission.objects.filter(codename="view_storedevent"))
print(AuthToken.objects.create(user)[1])
"""


def test_an_account_has_so_many_streams_open_and_no_more(waybill: Waybill) -> None:
    with ExitStack() as open_streams:
        followed = [open_streams.enter_context(waybill.listener("stream", "counted").listening()) for _ in range(SEATS)]
        assert [next(messages) for messages in followed] == [None] * SEATS
        refused = waybill.ask("GET", "stream", "counted")
    assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/problem+json")
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("throttled", "5")

    assert eventually(lambda: has_a_seat(waybill))


def has_a_seat(waybill: Waybill) -> bool:
    with httpx2.stream(
        "GET", waybill.api("stream"), headers={"Authorization": f"Bearer {waybill.tokens['counted']}"}
    ) as answer:
        return answer.status_code == 200


def test_the_orders_of_others_and_strangers_have_no_stream(waybill: Waybill) -> None:
    order_id = waybill.place("ann")
    for who, status in (("ben", 404), ("", 401)):
        answer = waybill.ask("GET", f"orders/{order_id}/stream", who, Accept="text/event-stream")
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert waybill.ask("GET", "stream", "ann").status_code == 403


def test_a_head_request_gets_the_headers_alone(waybill: Waybill) -> None:
    answer = waybill.ask("HEAD", "stream", "watcher", Accept="text/event-stream")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")


def test_a_server_that_is_killed_is_followed_again_where_it_was(start_stack: StackStarter) -> None:
    waybill = started(start_stack(members=("web", "eventing", "beat"), **SETTINGS))
    listener, got = waybill.listener("stream", "watcher", last=0), list[Message]()
    for _ in range(3):
        order_id = waybill.place("shop")
        with suppress(httpx2.TransportError), listener.listening() as messages:
            for message in messages:
                got += [message] if message is not None else []
                if message is not None and message.data["stream"] == f"order-{order_id}":
                    waybill.stack.processes.kill("web")
        waybill.stack.processes.start("web")
        assert eventually(lambda: is_up(waybill))
    order_id = waybill.place("shop")
    got += follow_until(listener, lambda got: any(each.data["stream"] == f"order-{order_id}" for each in got))

    assert [message.id for message in got] == list(range(1, len(got) + 1))


def is_up(waybill: Waybill) -> bool:
    try:
        return httpx2.get(f"{waybill.stack.address}/livez").status_code == 200
    except httpx2.TransportError:
        return False


def test_streams_that_wait_hold_no_connection_and_end_before_the_server_does(start_stack: StackStarter) -> None:
    waybill = started(start_stack(members=("web",), EVENTING_STREAMS="50", EVENTING_STREAM_HEARTBEAT_SECONDS="1"))
    listeners = [waybill.listener("stream", "watcher") for _ in range(MORE_THAN_THE_POOL_HAS)]
    with ThreadPoolExecutor(len(listeners)) as pool:
        ended = [pool.submit(follow_to_the_end, each) for each in listeners]
        assert eventually(lambda: all(each.comments for each in listeners))
        assert waybill.ask("GET", "orders", "ann").status_code == 200
        assert len(waybill.sql(WEB_SESSIONS)) < len(listeners) / 2
        stopped_at = time.monotonic()
        waybill.stack.processes.stop("web")
        took = time.monotonic() - stopped_at
        for each in ended:
            each.result(timeout=60)

    assert took < GRACE, f"It took {took:.1f} s."


def follow_to_the_end(listener: Listener) -> None:
    with listener.listening() as messages:
        for _ in messages:
            pass
