"""Follows docs/adding-a-context.md to the letter, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "adding-a-context.md"
FILES = re.compile(r"^`(loyalty/[\w/]+\.py)`\n\n```python\n(.*?)```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
COPIED = ("config", "eventing", "inventory", "orders", "payments", "shipping", "templates", "tests", "pyproject.toml")
FILES_BESIDE = ("manage.py", "conftest.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (*COPIED, *FILES_BESIDE):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(project: Path, *command: str) -> str:
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path="/adding_a_context").geturl()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_page_makes_a_context_that_works(project: Path) -> None:
    page = PAGE.read_text()
    for name, text in FILES.findall(page):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    replace(project / "config" / "settings.py", '    "shipping",\n', '    "shipping",\n    "loyalty",\n')
    replace(project / "pyproject.toml", '"payments", "shipping"]', '"payments", "shipping", "loyalty"]')
    replace(project / "pyproject.toml", "payments | shipping", "payments | shipping | loyalty")
    replace(
        project / "pyproject.toml",
        '    "shipping.** -> *.commands"',
        '    "loyalty.** -> *.commands", "loyalty.** -> *.events",\n    "shipping.** -> *.commands"',
    )

    commands = SHELL.findall(page)[0].splitlines()
    assert commands[0] == "python manage.py makemigrations loyalty"
    run(project, *commands[0].split()[1:])
    assert commands[2] == "python manage.py check"
    run(project, *commands[2].split()[1:])
    tested = run(project, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "loyalty")
    assert "1 passed" in tested
    assert "loyalty.EarnPoints" in run(project, "manage.py", "event_map")
    run(project, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
