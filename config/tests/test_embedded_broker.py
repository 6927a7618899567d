from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from config.embedded import broker, running_servers
from config.embedded.broker import EmbeddedBroker
from config.embedded.state import AlreadyRunning


def test_a_password_is_needed_and_nobody_can_read_it(state: Path) -> None:
    with EmbeddedBroker(state) as server:
        with redis.Redis.from_url(server.url()) as client:
            assert client.ping()
        address = server.url().rpartition("@")[2]
        with redis.Redis.from_url(f"redis://{address}") as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()

    assert (state / "broker" / "broker.conf").stat().st_mode & 0o777 == 0o600


def test_messages_survive_a_kill_at_the_same_address(state: Path) -> None:
    with EmbeddedBroker(state) as server:
        url = server.url()
        with redis.Redis.from_url(url) as client:
            client.lpush("queue", "message")

        server.kill()
        server.start()

        assert server.url() == url
        with redis.Redis.from_url(url) as client:
            assert client.lrange("queue", 0, -1) == [b"message"]


def test_a_forgetful_broker_leaves_nothing(state: Path) -> None:
    with EmbeddedBroker(state, durable=False) as server:
        with redis.Redis.from_url(server.url()) as client:
            client.lpush("queue", "message")
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            assert client.lrange("queue", 0, -1) == []


def test_a_running_broker_is_found_from_its_files(state: Path) -> None:
    with EmbeddedBroker(state) as server:
        assert running_servers(state).redis_url == server.url()
        with pytest.raises(AlreadyRunning, match=f"in use by process {os.getpid()}"):
            EmbeddedBroker(state).start()

    assert running_servers(state).redis_url is None


def test_a_machine_without_a_broker_is_told_what_to_do(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "WHEELS", {})
    monkeypatch.setattr(broker, "PROGRAMS", ())

    with pytest.raises(FileNotFoundError, match="or set REDIS_URL"):
        EmbeddedBroker(state).start()
