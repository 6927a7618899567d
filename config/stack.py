"""All of Waybill on one machine: PostgreSQL, the broker, the web, the workers and beat."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from config.embedded.broker import EmbeddedBroker
from config.embedded.leash import die_with_parent
from config.embedded.postgres import EmbeddedPostgres
from config.embedded.state import AlreadyRunning, State, port_is_free
from config.processes import Processes, Terminal
from config.wrapping_keys import new_wrapping_key

ROOT = Path(__file__).resolve().parent.parent
WORKERS = {"eventing": ("eventing",), "effects": ("gateway", "carrier", "mail"), "webhooks": ("webhooks",)}
MEMBERS = ("web", *WORKERS, "beat")
STOPPED_FIRST_TO_LAST = (("beat",), ("web",), tuple(WORKERS))
CONCURRENCY = {"eventing": 2, "effects": 2, "webhooks": 16}
POOL = {"eventing": "prefork", "effects": "prefork", "webhooks": "threads"}  # who sends webhooks waits, mostly
READY_SECONDS = 60


class StackError(RuntimeError):
    """Something that belongs to the stack doesn't come up."""


class Stack:
    """Brings everything up in `state`, in the order in which it's needed, and down in the opposite one.

    PostgreSQL and the broker are embedded, unless `environ` has a DATABASE_URL or a REDIS_URL. `members` are the
    programs to run, which `processes` starts, stops and kills by name.
    """

    def __init__(
        self,
        state: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        durable: bool = True,
        members: Collection[str] = MEMBERS,
        environ: Mapping[str, str] = os.environ,
        terminal: Terminal | None = None,
    ) -> None:
        self.state = State(state)
        self.host, self.port = host, port
        self.postgres = EmbeddedPostgres(state, durable=durable)
        self.broker = EmbeddedBroker(state, durable=durable)
        self.environ = dict(environ)
        self.terminal = terminal or Terminal()
        self.processes = Processes(self.terminal, ROOT)
        self._members = members
        self._servers: list[EmbeddedPostgres | EmbeddedBroker] = []

    @property
    def address(self) -> str:
        """Where the web is found."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self) -> Self:
        """Start everything, migrate, and wait until the web answers.

        Raises AlreadyRunning when the state directory or the port is in use, StackError when a program fails,
        and what EmbeddedPostgres and EmbeddedBroker raise.
        """
        try:
            self.state.hold()
        except AlreadyRunning as error:
            raise AlreadyRunning(
                f"Waybill is already running from this directory: {error} Stop it, or use another directory with "
                "WAYBILL_STATE."
            ) from None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything, in order: beat, web, workers, broker, PostgreSQL."""
        self.terminal.write("waybill", "stopping")
        for names in STOPPED_FIRST_TO_LAST:
            if known := [name for name in names if name in self.processes]:
                self.processes.stop(*known)
        for server in reversed(self._servers):
            server.stop()
        self.state.release()

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Start an embedded server again whenever it dies, until told otherwise; processes do that by themselves."""
        while not until():
            for server in self._servers:
                if not server.running:
                    self.terminal.write("waybill", f"{type(server).__name__} ended by itself: started again")
                    server.start()
            time.sleep(0.1)

    def manage(
        self, *arguments: str, environ: Mapping[str, str] | None = None, quiet: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end; when `quiet`, its output is kept instead of shown."""
        output = subprocess.PIPE if quiet else None
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environ, **(environ or {})},
            stdout=output,
            stderr=output,
            text=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        ) as command:
            try:
                self.watch(until=lambda: command.poll() is not None)
            except BaseException:
                command.terminate()
                raise
            stdout, stderr = command.communicate()
        return subprocess.CompletedProcess(arguments, command.returncode, stdout, stderr)

    def obey_signals(self) -> None:
        """Leave by SystemExit on SIGTERM and Ctrl-C, so that `with` stops everything; a second Ctrl-C hurries that."""

        def leave(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, lambda number, frame: self.processes.hurry())
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, leave)

    def _start(self) -> None:
        if "web" in self._members and not port_is_free(self.host, self.port):
            raise AlreadyRunning(
                f"Port {self.port} of {self.host} is in use by another program. Choose another: --port {self.port + 1}."
            )
        if not self.environ.get("DATABASE_URL"):
            self._servers.append(self.postgres)
            self.environ["DATABASE_URL"] = self.postgres.start().url()
        if not self.environ.get("REDIS_URL"):
            self._servers.append(self.broker)
            self.environ["REDIS_URL"] = self.broker.start().url()
        self.environ.setdefault("SECRET_KEY", self.state.secret("secret_key"))
        self.environ.setdefault("PERSONAL_DATA_KEYS", self.state.secret("personal_data_keys", make=new_wrapping_key))
        self.environ.update({"WAYBILL_STATE": str(self.state.path), "PYTHONUNBUFFERED": "1"})
        if self.manage("migrate", "--verbosity=0").returncode:
            raise StackError("`manage.py migrate` failed; its message is above.")
        for name, (command, environ) in self._programs().items():
            if name in self._members:
                self.processes.add(name, [sys.executable, "-m", *command], {**self.environ, **environ})
        if "web" in self._members:  # alone at first, so that its address is soon of use
            self.processes.start("web")
            self._wait_for_web()
        self.processes.start()

    def _programs(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        celery = ["celery", "-A", "config", "--quiet"]
        # The one about root is for those who accept pickles, the other for those who forgot to collect static files.
        no_superuser_warning = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
        no_static_warning = {"PYTHONWARNINGS": "ignore:No directory at"}
        workers = {
            name: (
                [*celery, *f"worker -Q {','.join(queues)}".split(), *_pool(name)],
                no_superuser_warning,
            )
            for name, queues in WORKERS.items()
        }
        bind = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        web = ["gunicorn", "config.asgi:application", "-k", "uvicorn_worker.UvicornWorker", "-b", bind]
        web += ["--no-control-socket", "--graceful-timeout", "10", "--log-level", "warning"]
        return {
            "web": (web, {"DATABASE_POOL": "true", **no_static_warning}),
            **workers,
            "beat": ([*celery, "beat", "-s", str(self.state.path / "beat"), "-l", "WARNING"], {}),
        }

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self.address):
            if self.processes["web"].starts > 1 or time.monotonic() > deadline:
                raise StackError(f"The web doesn't answer at {self.address}; what it wrote is above.")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _pool(name: str) -> list[str]:
    return f"-P {POOL[name]} -c {CONCURRENCY[name]} -n {name}@%h -l WARNING".split()


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/livez")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
