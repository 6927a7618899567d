"""The README's way from nothing to a fulfilled order, with a real web server and real workers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from config.management.commands.run import SAMPLE
from config.stack import MEMBERS, ROOT
from tests.conftest import StackStarter

WALK = re.compile(r"```sh\n(\. \.venv/bin/activate\n.*?)```", re.DOTALL)


def test_a_stranger_gets_from_nothing_to_a_fulfilled_order(start_stack: StackStarter) -> None:
    stack = start_stack(members=MEMBERS)
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

    walked = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
    )
    assert walked.returncode == 0, walked.stderr
    order = json.loads(walked.stdout.splitlines()[-1])
    assert (order["status"], order["total"]) == ("confirmed", {"amount": 510, "currency": "GBP"})
