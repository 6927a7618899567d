"""PostgreSQL and a broker of one's own, for a machine that has neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.embedded.state import State

DATABASE = USER = "waybill"


@dataclass(frozen=True)
class Servers:
    """Where the servers of a state directory answer; None for one that isn't running."""

    database_url: str | None
    redis_url: str | None
    secret_key: str | None
    personal_data_keys: str | None


def running_servers(state: Path) -> Servers:
    """Find what was started in this state directory, from its files alone."""
    return Servers(
        database_url=postgres_url(postgres) if (postgres := postgres_state(state)).running() else None,
        redis_url=broker_url(broker) if (broker := broker_state(state)).running() else None,
        secret_key=State(state).read("secret_key"),
        personal_data_keys=State(state).read("personal_data_keys"),
    )


def postgres_state(state: Path) -> State:
    """The part of a state directory that PostgreSQL keeps."""
    return State(state / "postgres", pid_file="data/postmaster.pid")


def postgres_url(state: State, database: str = DATABASE) -> str:
    """The URL of a database of the PostgreSQL that keeps this state."""
    return f"postgresql://{USER}:{state.read('password')}@127.0.0.1:{state.read('port')}/{database}"


def broker_state(state: Path) -> State:
    """The part of a state directory that the broker keeps."""
    return State(state / "broker", pid_file="data/pid", mode=0o700)


def broker_url(state: State, database: int = 0) -> str:
    """The URL of one of the broker's numbered databases."""
    return f"redis://:{state.read('password')}@127.0.0.1:{state.read('port')}/{database}"
