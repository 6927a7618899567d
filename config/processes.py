"""Programs that run together, write to one terminal, and are started again when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TextIO

from config.embedded.leash import die_with_parent

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY_SECONDS = 30.0
STOP_SECONDS = 20.0
COLOURS = (36, 33, 32, 35, 34)


class Terminal:
    """A stream that takes whole lines, each under the name of the program that wrote it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._interactive = self._stream.isatty()
        self._coloured = self._interactive and not os.environ.get("NO_COLOR")
        self._names: list[str] = []
        self._lock = threading.Lock()

    def write(self, name: str, line: str) -> None:
        """Write one line."""
        with self._lock:
            if name not in self._names:
                self._names.append(name)
            label = f"{name:<9}|"
            if self._coloured:
                label = f"\x1b[{COLOURS[self._names.index(name) % len(COLOURS)]}m{label}\x1b[0m"
            # Erases the progress line that another program may have left there; it draws it again.
            erase = "\r\x1b[K" if self._interactive else ""
            self._stream.write(f"{erase}{label} {line}\n")
            self._stream.flush()


class Process:
    """A program in a process group of its own, started again whenever it ends, until it's stopped."""

    def __init__(
        self, name: str, command: Sequence[str], *, environ: Mapping[str, str], directory: Path, terminal: Terminal
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = command
        self._environ = environ
        self._directory = directory
        self._terminal = terminal
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._keeper: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The number of its process while that is alive."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._keeper is not None and self._keeper.is_alive():
            return
        self._stopping.clear()
        # Linux ends a child with the thread that started it, so that thread stays with it.
        self._keeper = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """Ask it to end, and not to be started again; `join` waits for that."""
        with self._starting:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def join(self, timeout: float) -> None:
        """Wait until it has ended after `stop`, and kill it when it takes longer than that many seconds."""
        if self._keeper is None:
            return
        self._keeper.join(timeout)
        if self._keeper.is_alive():
            self._terminal.write(self.name, f"doesn't stop in {timeout:.0f} s: killed")
            self.kill()
            self._keeper.join()

    def kill(self) -> None:
        """End it and whatever it started, at once and without waiting; it stays down."""
        self._stopping.set()
        if self.pid is not None:
            self._kill_group()

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._terminal.write(self.name, f"ended by itself ({_meaning(code)}); again in {pause:g} s")
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self) -> int:
        with self._starting:
            if self._stopping.is_set():
                return 0
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
            self.starts += 1
        with self._process as process:
            reader = threading.Thread(target=self._show, args=(process.stdout,), daemon=True)
            reader.start()
            code = process.wait()
            self._kill_group()  # a worker that died leaves children, which would go on with its tasks
            reader.join()
        return code

    def _show(self, output: IO[str]) -> None:
        for line in output:
            if text := line.rstrip():
                self._terminal.write(self.name, text)

    def _kill_group(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Processes:
    """Named programs that are started, stopped and killed by name."""

    def __init__(self, terminal: Terminal, directory: Path) -> None:
        self._terminal = terminal
        self._directory = directory
        self._members: dict[str, Process] = {}

    def add(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Make a program known, which is yet to be started."""
        self._members[name] = Process(
            name, command, environ=environ, directory=self._directory, terminal=self._terminal
        )

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> Process:
        return self._members[name]

    def start(self, *names: str) -> None:
        """Start those, or all."""
        for member in self._named(names):
            member.start()

    def stop(self, *names: str, timeout: float = STOP_SECONDS) -> None:
        """Stop those, or all, together; what takes longer than that many seconds is killed."""
        deadline = time.monotonic() + timeout
        for member in self._named(names):
            member.stop()
        for member in self._named(names):
            member.join(max(0.0, deadline - time.monotonic()))

    def kill(self, *names: str) -> None:
        """Kill those, or all, with whatever they started; they stay down until they're started again."""
        for member in self._named(names):
            member.kill()
        for member in self._named(names):
            member.join(STOP_SECONDS)

    def hurry(self) -> None:
        """Kill all without waiting: for a signal handler, when `stop` takes too long for somebody."""
        for member in self._members.values():
            member.kill()

    def _named(self, names: Sequence[str]) -> list[Process]:
        return [self._members[name] for name in names or self._members]


def _meaning(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
