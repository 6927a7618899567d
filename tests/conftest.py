from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from config.embedded.state import State
from config.stack import MEMBERS, Stack

StackStarter = Callable[..., Stack]
WITHOUT_WEB = tuple(member for member in MEMBERS if member != "web")


@contextmanager
def stacks() -> Iterator[StackStarter]:
    """Starts servers and workers, which end with the block; keywords are settings of theirs."""
    state = Path(tempfile.mkdtemp(prefix="waybill-test-"))
    state.chmod(0o711)  # PostgreSQL runs under another account when this one is root
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    with ExitStack() as running:

        def start(*, members: tuple[str, ...] = WITHOUT_WEB, **settings: str) -> Stack:
            environ = {**inherited, "DJANGO_SETTINGS_MODULE": "config.settings", **settings}
            stack = Stack(state, port=State(state).port(), members=members, durable=False, environ=environ)
            return running.enter_context(stack)

        yield start
    shutil.rmtree(state)


@pytest.fixture
def start_stack() -> Iterator[StackStarter]:
    """Starts servers and workers of the test's own, which end with it; keywords are settings of theirs."""
    with stacks() as start:
        yield start
