"""Whatever is killed in the middle of an import, no order is left unfinished once it's back."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
import redis

from config.management.commands.run import SAMPLE
from config.stack import Stack
from tests.conftest import StackStarter
from tests.waiting import eventually

ORDERS = 222
BETWEEN_KILLS = 3  # orders that are confirmed from one kill to the next


def count(stack: Stack, status: str) -> int:
    """Orders in that state; fewer while the database is down."""
    try:
        with psycopg.connect(stack.environ["DATABASE_URL"]) as connection:
            query = "SELECT count(*) FROM orders_ordersummary WHERE status = %s"
            row = connection.execute(query, [status]).fetchone()
            return row[0] if row else 0
    except psycopg.OperationalError:
        return 0


def has_confirmed(stack: Stack, orders: int) -> bool:
    return count(stack, "confirmed") >= orders


def flush_the_broker(stack: Stack) -> None:
    redis.Redis.from_url(stack.environ["REDIS_URL"]).flushall()


def kill_worker(name: str) -> Callable[[Stack], None]:
    def kill(stack: Stack) -> None:
        stack.processes.kill(name)
        stack.processes.start(name)

    return kill


@pytest.mark.timeout(600)
def test_an_import_survives_the_death_of_everything_that_takes_part(start_stack: StackStarter) -> None:
    # A killed worker's jobs soon come again, and batches are tiny, so that the import isn't over too soon.
    stack = start_stack(EVENTING_LEASE_SECONDS="3", EVENTING_BATCH="2")
    killings: list[Callable[[Stack], None]] = [
        lambda stack: stack.postgres.kill(),
        kill_worker("eventing"),
        kill_worker("effects"),
        flush_the_broker,
        lambda stack: stack.broker.kill(),
        kill_worker("beat"),
    ]

    def kill_them_all() -> None:
        for kill in killings:
            enough = min(ORDERS, count(stack, "confirmed") + BETWEEN_KILLS)
            assert eventually(partial(has_confirmed, stack, enough), seconds=90)
            assert count(stack, "confirmed") < ORDERS, "The import was over before everything was killed."
            kill(stack)

    with ThreadPoolExecutor() as pool:
        killer = pool.submit(kill_them_all)
        attempts = 0
        while stack.manage("import_orders", str(SAMPLE), "--wait", quiet=True).returncode:
            attempts += 1
            assert attempts < 20, "The import didn't get through."
        killer.result(timeout=1)

    assert count(stack, "confirmed") == ORDERS
    answer = stack.manage("reconcile", "--wait", "200", "--replay", "--json", quiet=True).stdout
    assert [finding for finding in json.loads(answer) if finding["wrong"]] == []
