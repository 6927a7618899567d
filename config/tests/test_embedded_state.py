from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from config.embedded import Servers, running_servers
from config.embedded.state import AlreadyRunning, State, port_is_free


@pytest.fixture
def kept(tmp_path: Path) -> State:
    kept = State(tmp_path / "broker")
    kept.hold()
    return kept


def test_a_secret_is_remembered_and_private(kept: State) -> None:
    secret = kept.secret("password")

    assert len(secret) > 20
    assert State(kept.path).secret("password") == secret
    assert (kept.path / "password").stat().st_mode & 0o777 == 0o600


def test_a_port_lasts_while_it_is_free(kept: State) -> None:
    port = kept.port()

    assert kept.port() == port
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free("127.0.0.1", port)
        assert kept.port() != port


def test_a_held_directory_is_refused_to_others_with_the_name_of_its_holder(kept: State) -> None:
    with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}"):
        State(kept.path).hold()

    kept.release()
    State(kept.path).hold()


def test_a_process_number_that_another_program_got_is_forgotten(kept: State, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=tmp_path) as stranger:
        (kept.path / "pid").write_text(f"{stranger.pid}\n")
        assert kept.running()

        kept.end_orphan()

        assert not kept.running()
        assert stranger.poll() is None


def test_nothing_runs_in_a_new_directory(tmp_path: Path) -> None:
    assert running_servers(tmp_path) == Servers(None, None, None, None)
