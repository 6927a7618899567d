from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.processes import Processes, Terminal
from tests.waiting import eventually

RUN_UNTIL_TOLD = "import signal; print('up', flush=True); signal.pause()"
IGNORE_BEING_TOLD = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + RUN_UNTIL_TOLD
WITH_A_CHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import os, signal; "
    'print("child", os.getpid(), flush=True); signal.pause()\']); ' + RUN_UNTIL_TOLD
)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def processes(output: io.StringIO, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(Terminal(output), tmp_path)
    yield processes
    processes.kill()


def add(processes: Processes, name: str, program: str) -> None:
    processes.add(name, [sys.executable, "-c", program], os.environ)
    processes.start(name)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody asked about yet doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_line_stands_under_the_name_of_its_program(processes: Processes, output: io.StringIO) -> None:
    add(processes, "web", RUN_UNTIL_TOLD)

    assert eventually(lambda: "web      | up\n" in output.getvalue())


def test_names_are_coloured_on_a_screen_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    Terminal(screen := Screen()).write("web", "up")
    monkeypatch.setenv("NO_COLOR", "1")
    Terminal(plain := Screen()).write("web", "up")

    assert screen.getvalue() == "\r\x1b[K\x1b[36mweb      |\x1b[0m up\n"
    assert plain.getvalue() == "\r\x1b[Kweb      | up\n"


def test_a_program_that_dies_is_started_again_and_that_is_said(processes: Processes, output: io.StringIO) -> None:
    add(processes, "worker", RUN_UNTIL_TOLD)
    assert eventually(lambda: processes["worker"].pid)
    first = processes["worker"].pid
    assert first

    os.kill(first, signal.SIGKILL)

    assert eventually(lambda: processes["worker"].pid not in (None, first))
    assert "worker   | ended by itself (SIGKILL); again in 0.5 s" in output.getvalue()


def test_a_program_that_dies_again_and_again_is_started_ever_less_often(
    processes: Processes, output: io.StringIO
) -> None:
    add(processes, "beat", "raise SystemExit(3)")

    assert eventually(lambda: "again in 1 s" in output.getvalue())
    assert "ended by itself (exit code 3); again in 0.5 s" in output.getvalue()


def test_a_stopped_program_stays_down_until_it_is_started(processes: Processes, output: io.StringIO) -> None:
    add(processes, "worker", RUN_UNTIL_TOLD)
    assert eventually(lambda: "up" in output.getvalue())

    processes.stop("worker")
    assert processes["worker"].pid is None
    assert "ended by itself" not in output.getvalue()

    processes.start("worker")
    assert eventually(lambda: processes["worker"].pid)


def test_a_killed_program_takes_its_children_along_and_stays_down(processes: Processes, output: io.StringIO) -> None:
    add(processes, "worker", WITH_A_CHILD)
    assert eventually(lambda: "child" in output.getvalue())
    child = int(output.getvalue().partition("child ")[2].split()[0])

    processes.kill("worker")

    assert processes["worker"].pid is None
    assert eventually(lambda: not alive(child))


def test_a_program_that_does_not_stop_is_killed(processes: Processes, output: io.StringIO) -> None:
    add(processes, "worker", IGNORE_BEING_TOLD)
    assert eventually(lambda: "up" in output.getvalue())

    processes.stop("worker", timeout=0.2)

    assert processes["worker"].pid is None
    assert "doesn't stop in 0 s: killed" in output.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child of its parent's end")
def test_programs_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervise = (
        "import os, pathlib, sys, time; from config.processes import Processes, Terminal;"
        "processes = Processes(Terminal(), pathlib.Path('.'));"
        f"processes.add('web', [sys.executable, '-c', {RUN_UNTIL_TOLD!r}], os.environ); processes.start();\n"
        "while not processes['web'].pid: time.sleep(0.01)\n"
        "print(processes['web'].pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", supervise], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert alive(child)
        supervisor.kill()

    assert eventually(lambda: not alive(child))
