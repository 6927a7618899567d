"""Read models are built anew, again and again, while orders are placed and read: nobody ever sees less than before."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from config.management.commands.run import SAMPLE
from config.stack import ROOT, Stack
from eventing.replay import projections
from tests.conftest import StackStarter
from tests.waiting import eventually

ORDERS = 222


class Reader:
    """Somebody who looks at the order list all the time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.most, self.looks, self.shrank = 0, 0, False

    def look(self) -> int:
        ((seen,),) = self._connection.execute("SELECT count(*) FROM orders_ordersummary").fetchall()
        self.looks += 1
        self.shrank |= seen < self.most
        self.most = max(self.most, seen)
        return self.most


def replay(stack: Stack, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "replay_projection", *options, "--json"]
    return subprocess.Popen(command, cwd=ROOT, env=stack.environ, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(600)
def test_readers_see_no_gap_and_no_event_is_missing_or_doubled(start_stack: StackStarter) -> None:
    stack = start_stack(EVENTING_BATCH="5")  # so that the import takes a while
    names = {projection.name for projection in projections() if not projection.name.startswith("eventing.")}
    replays = 0
    with psycopg.connect(stack.environ["DATABASE_URL"], autocommit=True) as connection, ThreadPoolExecutor() as pool:
        reader = Reader(connection)
        importing = pool.submit(stack.manage, "import_orders", str(SAMPLE), "--wait", quiet=True)
        assert eventually(lambda: reader.look() > 10)
        killed = replay(stack, "orders.OrderSummaries")
        eventually(lambda: reader.look() < 0, seconds=1)  # by then it's somewhere in the middle
        killed.kill()
        killed.communicate()
        while not importing.done() or replays < 2:
            replaying = replay(stack, *sorted(names))
            assert eventually(lambda: reader.look() and replaying.poll() is not None, seconds=120)  # noqa: B023
            assert replaying.returncode == 0
            assert {each["projection"] for each in json.loads(replaying.communicate()[0])} == names
            replays += 1
        assert importing.result().returncode == 0
        assert eventually(lambda: reader.look() == ORDERS)

    assert not reader.shrank
    assert reader.looks > 100
    answer = stack.manage("reconcile", "--wait", "100", "--replay", "--json", quiet=True).stdout
    assert [finding for finding in json.loads(answer) if finding["wrong"]] == []
