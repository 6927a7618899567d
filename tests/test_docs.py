"""The documentation says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from eventing.event_map import event_map
from eventing.management.commands.event_map import as_mermaid

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path for path in ROOT.rglob("*.md") if not {".venv", "var", "node_modules"} & set(path.parts)]
MAP = ROOT / "docs" / "event-map.md"


def test_the_event_map_is_the_one_that_the_code_prints() -> None:
    flow = event_map()
    own = [line for line in as_mermaid(flow) if "eventing_" not in line or "eventing_Person" in line]
    found = re.search(r"```mermaid\n(.*?)```", MAP.read_text(), re.DOTALL)

    assert found is not None
    assert found[1].splitlines() == own, "Write it anew: python manage.py event_map --mermaid"


def test_the_maps_of_fulfilment_are_the_ones_that_the_code_prints() -> None:
    page = (ROOT / "docs" / "fulfilment.md").read_text()
    maps = re.findall(r"`manage.py event_map --mermaid --only ([^`]+)`\n\n```mermaid\n(.*?)```", page, re.DOTALL)

    assert len(maps) == 3
    for only, shown in maps:
        assert shown.splitlines() == list(as_mermaid(event_map(only=only.split()))), f"Write it anew, for {only}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_pages_name_exist(page: Path) -> None:
    named = set(re.findall(r"manage\.py ([a-z_]+)", page.read_text()))

    assert named - {"makemigrations", "migrate", "check", "loyalty"} <= set(get_commands())
