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


def write(project: Path, part: str) -> None:
    """The files that a part of the page gives in full."""
    for name, text in FILES.findall(part):
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def manage(project: Path, part: str) -> list[str]:
    """Run the commands that a part of the page shows first, but `migrate`: the test has a database of its own."""
    commands: list[str] = SHELL.findall(part)[0].splitlines()
    for command in commands:
        python, *arguments = command.split()
        assert python == "python"
        if arguments != ["manage.py", "migrate"]:
            run(project, *arguments)
    return commands


def test_the_page_makes_a_context_that_works_and_whose_events_can_change(project: Path) -> None:
    making, changing = PAGE.read_text().split("## 7. Changing an event")
    write(project, making)
    replace(project / "config" / "settings.py", '    "shipping",\n', '    "shipping",\n    "loyalty",\n')
    replace(project / "pyproject.toml", '"payments", "shipping"]', '"payments", "shipping", "loyalty"]')
    replace(project / "pyproject.toml", "payments | shipping", "payments | shipping | loyalty")
    replace(
        project / "pyproject.toml",
        '    "shipping.** -> *.commands"',
        '    "loyalty.** -> *.commands", "loyalty.** -> *.events",\n    "shipping.** -> *.commands"',
    )

    assert "python manage.py check" in manage(project, making)
    assert schemas(project) == ["points_earned.v1.avsc", "points_earned.v1.json"]
    assert "1 passed" in outcome_of_its_tests(project)
    assert "loyalty.EarnPoints" in run(project, "manage.py", "event_map")

    write(project, changing)
    manage(project, changing)
    assert len(schemas(project)) == 4
    assert "1 passed" in outcome_of_its_tests(project)
    run(project, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")


def schemas(project: Path) -> list[str]:
    """The files of the context's schemas."""
    return sorted(file.name for file in (project / "loyalty" / "schemas").iterdir())


def outcome_of_its_tests(project: Path) -> str:
    """What the context's own tests say."""
    return run(project, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "loyalty")
