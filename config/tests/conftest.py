from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def state_directory() -> Iterator[Path]:
    """A state directory at a place which every account can reach, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="waybill-state-"))
    place.chmod(0o711)
    yield place / "var"
    shutil.rmtree(place)


@pytest.fixture
def state() -> Iterator[Path]:
    with state_directory() as directory:
        yield directory
