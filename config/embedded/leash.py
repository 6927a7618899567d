"""What a child process does before it becomes another program."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the child gets this signal when its parent ends, however that happens (Linux only).

    Linux looks at the thread that started the child, so that has to outlive it.
    """
    parent = os.getpid()

    def leash() -> None:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # it ended before the leash was on
                os._exit(1)

    return leash


def in_user_namespace(uid: int, gid: int, then: Callable[[], None]) -> Callable[[], None]:
    """For `preexec_fn`: the child sees itself as that account, while its files stay the caller's."""
    own_uid, own_gid = os.geteuid(), os.getegid()

    def enter() -> None:
        if _libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        process = Path("/proc/self")
        (process / "setgroups").write_text("deny")
        (process / "uid_map").write_text(f"{uid} {own_uid} 1")
        (process / "gid_map").write_text(f"{gid} {own_gid} 1")
        then()

    return enter
