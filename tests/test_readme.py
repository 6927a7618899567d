"""The README's way from nothing to a fulfilled order, with a real web server and real workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded.state import State
from config.management.commands.run import SAMPLE
from config.stack import ROOT, Stack
from tests.waiting import eventually

WALK = re.compile(r"```sh\n(\. \.venv/bin/activate\n.*?)```", re.DOTALL)


@pytest.fixture
def stack() -> Iterator[Stack]:
    state = Path(tempfile.mkdtemp(prefix="waybill-readme-"))
    state.chmod(0o711)
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    with Stack(state, port=State(state).port(), durable=False, environ=environ) as running:
        yield running
    shutil.rmtree(state)


def test_a_stranger_gets_from_nothing_to_a_fulfilled_order(stack: Stack) -> None:
    walk = WALK.search((ROOT / "README.md").read_text())
    assert walk is not None
    script = walk[1].replace(". .venv/bin/activate\n", "").replace("http://localhost:8000", stack.address)
    environ = {**stack.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert (
        stack.manage(
            "createsuperuser",
            "--noinput",
            "--username=admin",
            "--email=a@example.com",
            quiet=True,
            environ={"DJANGO_SUPERUSER_PASSWORD": "secret"},
        ).returncode
        == 0
    )
    assert stack.manage("import_orders", str(SAMPLE), "--limit=5", "--wait", quiet=True).returncode == 0

    walked = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert walked.returncode == 0, walked.stderr

    def status() -> str:
        last = subprocess.run(
            ["bash", "-euc", script[: script.index("# Ten more")] + script.splitlines()[-1]],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return str(json.loads(last.stdout)["status"])

    assert eventually(lambda: status() == "confirmed"), walked.stdout
