"""`.env.example` names every setting that the program reads, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
READ = re.compile(r'(?:env\.\w+|_required)\(\s*"([A-Z_]+)"')


def test_the_example_lists_exactly_what_the_settings_read() -> None:
    read = set(READ.findall((ROOT / "config" / "settings.py").read_text()))
    listed = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert set(listed) == read
    assert len(listed) == len(set(listed))
