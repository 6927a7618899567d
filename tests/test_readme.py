"""What README and docs/api.md tell people to type, with a real web server and real workers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from config.management.commands.run import SAMPLE
from config.stack import MEMBERS, ROOT, Stack
from tests.conftest import StackStarter

WALK = re.compile(r"```sh\n(\. \.venv/bin/activate\n.*?)```", re.DOTALL)


BLOCK = re.compile(r"```(sh|json)\n(.*?)```", re.DOTALL)
NEXT = "----- next block -----"


def environ_of(stack: Stack) -> dict[str, str]:
    """What somebody's shell has who can type `python`; with an administrator to be."""
    made = stack.manage(
        "createsuperuser",
        "--noinput",
        "--username=admin",
        "--email=a@example.com",
        quiet=True,
        environ={"DJANGO_SUPERUSER_PASSWORD": "secret"},
    )
    assert made.returncode == 0
    return {**stack.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_a_stranger_gets_from_nothing_to_a_fulfilled_order(start_stack: StackStarter) -> None:
    stack = start_stack(members=MEMBERS)
    walk = WALK.search((ROOT / "README.md").read_text())
    assert walk is not None
    script = walk[1].replace(". .venv/bin/activate\n", "").replace("http://localhost:8000", stack.address)
    environ = environ_of(stack)
    assert stack.manage("import_orders", str(SAMPLE), "--limit=5", "--wait", quiet=True).returncode == 0

    walked = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
    )
    assert walked.returncode == 0, walked.stderr
    order = json.loads(walked.stdout.splitlines()[-1])
    assert (order["status"], order["total"]) == ("confirmed", {"amount": 510, "currency": "GBP"})


def test_the_api_answers_as_its_description_says(start_stack: StackStarter, tmp_path: Path) -> None:
    stack = start_stack(members=MEMBERS)
    blocks = BLOCK.findall((ROOT / "docs" / "api.md").read_text())
    scripts = [text for kind, text in blocks if kind == "sh"]
    expected = {index: text for index, text in enumerate(_answers(blocks)) if text}
    script = f"\necho '{NEXT}'\n".join(scripts).replace(". .venv/bin/activate\n", "")
    script = script.replace("http://localhost:8000", stack.address).replace("manage.py", str(ROOT / "manage.py"))
    walked = subprocess.run(
        ["bash", "-uc", script], cwd=tmp_path, env=environ_of(stack), capture_output=True, text=True, timeout=180
    )
    assert not walked.stderr
    printed = walked.stdout.split(f"{NEXT}\n")
    assert len(printed) == len(scripts)
    for index, text in expected.items():
        said = "\n".join(line for line in printed[index].splitlines() if line.strip())
        pattern = ".*?".join(re.escape(part) for part in text.strip().split("…"))
        assert re.fullmatch(pattern, said, re.DOTALL), f"expected\n{text}\nbut it was\n{said}"


def _answers(blocks: list[tuple[str, str]]) -> list[str]:
    """What each script is said to print; empty where that isn't said."""
    following = [*blocks[1:], ("sh", "")]
    return [
        text if kind == "json" else ""
        for (script, _), (kind, text) in zip(blocks, following, strict=True)
        if script == "sh"
    ]
