"""The account under which PostgreSQL runs, which refuses root, and a number that has no account."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.embedded.leash import die_with_parent, in_user_namespace

ROOT = 0
ACCOUNTS = ("postgres", "nobody")
NOBODY = 65534


@dataclass(frozen=True)
class Account:
    """A user and group, which are `borrowed` when their processes only believe to run under them."""

    uid: int
    gid: int
    borrowed: bool = False

    def popen_options(self) -> dict[str, Any]:
        """What subprocess needs to start a program under this account, which is interrupted when this process ends."""
        leash = die_with_parent(signal.SIGINT)
        if self.borrowed:
            return {"preexec_fn": in_user_namespace(self.uid, self.gid, leash)}
        if self.uid == os.geteuid():
            return {"preexec_fn": leash}
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "preexec_fn": leash}

    def own(self, path: int | Path) -> None:
        """Give it a file or directory, unless its files are the caller's anyway."""
        if not self.borrowed and self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether it may go down to that path, by the permission bits."""
        if self.borrowed or self.uid == os.geteuid():
            return True
        return all(self._may_enter(step) for step in (path.resolve(), *path.resolve().parents) if step.exists())

    def _may_enter(self, path: Path) -> bool:
        status = path.stat()
        bit = 0o100 if status.st_uid == self.uid else 0o010 if status.st_gid == self.gid else 0o001
        return bool(status.st_mode & bit)


def account_for(data: Path) -> Account:
    """Choose who runs a server that keeps its files in `data`: whom they belong to, or who can reach it.

    Raises PermissionError, which says what to do, when nobody can.
    """
    own = Account(os.geteuid(), os.getegid())
    if data.exists() and data.stat().st_uid not in (ROOT, own.uid):
        if own.uid != ROOT:
            raise PermissionError(
                f"{data} belongs to another account (uid {data.stat().st_uid}). Run under that account, or use "
                "another directory (WAYBILL_STATE)."
            )
        return Account(data.stat().st_uid, data.stat().st_gid)
    if own.uid != ROOT and _has_name(own.uid):
        return own
    if own.uid == ROOT and not data.exists():
        for name in ACCOUNTS:
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                account = Account(entry.pw_uid, entry.pw_gid)
                if account.reaches(data.parent):
                    return account
    borrowed = Account(NOBODY, NOBODY, borrowed=True)
    try:
        subprocess.run(["true"], check=True, **borrowed.popen_options())  # noqa: S607
    except subprocess.SubprocessError:
        raise PermissionError(
            f"PostgreSQL refuses to run as {'root' if own.uid == ROOT else f'uid {own.uid}, which has no name'}, "
            f"no other account ({' or '.join(ACCOUNTS)}) can reach {data.parent}, and user namespaces aren't "
            "permitted. Use a directory that everybody may enter (WAYBILL_STATE=/var/lib/waybill), an ordinary "
            "account, or a running server (DATABASE_URL)."
        ) from None
    return borrowed


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
