from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

import pytest

from config.embedded.state import AlreadyRunning, State
from config.processes import Terminal
from config.stack import MEMBERS, Stack
from tests.waiting import eventually


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


def test_a_port_in_use_is_named_before_anything_starts(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AlreadyRunning, match=f"Port {port} of 127.0.0.1 is in use .* --port {port + 1}"):
            Stack(state, port=port, environ={}).start()

    assert not (state / "postgres").exists()


def test_a_second_stack_in_the_same_directory_is_told_of_the_first(state: Path) -> None:
    State(state).hold()

    with pytest.raises(AlreadyRunning, match=f"already running .* process {os.getpid()}.* WAYBILL_STATE"):
        Stack(state, environ={}).start()


def test_programs_stop_in_order_so_that_none_loses_what_it_needs(state: Path, output: io.StringIO) -> None:
    program = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: exit('ended')); print('up', flush=True);signal.pause()"
    )
    stack = Stack(state, environ={}, terminal=Terminal(output))
    for name in MEMBERS:
        stack.processes.add(name, [sys.executable, "-c", program], os.environ)
    stack.processes.start()
    assert eventually(lambda: output.getvalue().count("up") == len(MEMBERS))

    stack.stop()

    ended = [line.split()[0] for line in output.getvalue().splitlines() if line.endswith("ended")]
    assert ended[:2] == ["beat", "web"]
    assert sorted(ended[2:]) == ["effects", "eventing", "webhooks"]
