"""The directory in which a server keeps its data, and what has to be found again: its password, port and process."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class AlreadyRunning(RuntimeError):
    """Somebody else is using the state directory."""


class State:
    """A directory that one process at a time may hold, for as long as it lives."""

    def __init__(self, path: Path, *, pid_file: str = "pid", mode: int = 0o711) -> None:
        self.path = path.absolute()
        self._pid_file = self.path / pid_file
        self._mode = mode
        self._lock: int | None = None

    def hold(self) -> None:
        """Create it, and keep others out of it.

        Raises AlreadyRunning, with the process that holds it.
        """
        if self._lock is not None:
            return
        for missing in [path for path in (self.path.parent, self.path) if not path.exists()]:
            missing.mkdir(parents=True, exist_ok=True)
            missing.chmod(self._mode if missing == self.path else 0o711)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode()
            os.close(lock)
            raise AlreadyRunning(f"{self.path} is in use by process {holder or '(just starting)'}.") from None
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def release(self) -> None:
        """Let others in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: str) -> str | None:
        """What is remembered under a name, if anything, and if it may be read."""
        try:
            return (self.path / name).read_text().strip()
        except (FileNotFoundError, PermissionError):
            return None

    def write(self, name: str, value: str) -> None:
        """Remember something that only this account may read; whole, or not at all."""
        new = self.path / f"{name}.new"
        with open(new, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"{value}\n")
        new.rename(self.path / name)

    def secret(self, name: str, *, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
        """The remembered secret, made up on first use."""
        if not self.read(name):
            self.write(name, make())
        return self.read(name) or ""

    def port(self) -> int:
        """The port of last time while it's free, so that addresses last; another one when it isn't."""
        remembered = self.read("port")
        if not remembered or not port_is_free("127.0.0.1", int(remembered)):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.write("port", str(probe.getsockname()[1]))
        return int(self.read("port") or 0)

    def running(self) -> bool:
        """Whether the server's process file names a living process."""
        pid = self._pid()
        if pid is None:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # alive, under another account
        return True

    def end_orphan(self, timeout: float = 30) -> None:
        """End the server of a launcher that was killed, so that the data has one server.

        A process file whose number now belongs to another program is removed.
        Raises AlreadyRunning when that server doesn't end.
        """
        deadline = time.monotonic() + timeout
        while self.running() and (pid := self._pid()):
            if not self._serves(pid):
                self._pid_file.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                raise AlreadyRunning(
                    f"{self.path} is in use by process {pid}, which doesn't end. End it, and try again."
                )
            os.kill(pid, signal.SIGINT)
            time.sleep(0.05)

    def _pid(self) -> int | None:
        with suppress(OSError, ValueError, IndexError):
            return int(self._pid_file.read_text().split()[0])
        return None

    def _serves(self, pid: int) -> bool:
        """Whether that process works in the data directory; yes where there's no /proc to tell."""
        if not Path("/proc/self").exists():
            return True
        with suppress(OSError):
            return Path(f"/proc/{pid}/cwd").resolve() == self._pid_file.parent.resolve()
        return False


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(address)
            return True
    return False
