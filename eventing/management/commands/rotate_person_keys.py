from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from eventing import person_keys
from eventing.management.interruption import interruption
from eventing.person_keys import UnknownWrappingKey
from eventing.webhooks import secrets

PATIENCE = 0.05  # seconds


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation did, and how many keys each key of the environment encrypts now, by its name."""

    encrypts: str
    rotated: int
    wrapped_by: dict[str, int]
    not_needed: list[str]
    missing: list[str]


class Command(BaseCommand):
    help = (
        "Encrypt the keys of all persons, and the secrets of webhooks, with the first key of PERSONAL_DATA_KEYS, "
        "beside everybody who works. "
        "Interrupt it whenever you like: the same command goes on. Says which of the others can go then. "
        "Exit codes: 0 done, 1 keys are encrypted with one that isn't there, 2 usage, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how many keys each one encrypts")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def handle(self, *args: Any, dry_run: bool, json: bool, **options: Any) -> None:
        names, rotated = list(settings.EVENTING["PERSON_KEYS"]), 0
        with interruption() as interrupted:
            while not (dry_run or interrupted.asked or person_keys.are_rotated()):
                rotated += _rotate_some() or _pause()
            if not (dry_run or interrupted.asked):
                rotated += _rotate_secrets()
        wrapped_by = dict(sorted((Counter(person_keys.wrapped_by()) + Counter(secrets.wrapped_by())).items()))
        done = Rotation(
            encrypts=names[0],
            rotated=rotated,
            wrapped_by=wrapped_by,
            not_needed=[name for name in names[1:] if name not in wrapped_by],
            missing=sorted(wrapped_by.keys() - set(names)),
        )
        self.stdout.write(msgspec.json.encode(done).decode() if json else _told(done, dry_run=dry_run))
        if interrupted.asked:
            self.stderr.write("Interrupted: run the same command again, and it goes on.")
            sys.exit(130)
        if done.missing:
            raise CommandError(
                f"PERSONAL_DATA_KEYS doesn't have {', '.join(done.missing)}: nobody can read what those keys protect. "
                "Put them back there."
            )


def _rotate_some() -> int:
    try:
        with transaction.atomic():
            return person_keys.rotate()
    except UnknownWrappingKey as error:
        raise CommandError(str(error)) from error


def _rotate_secrets() -> int:
    """Those of webhooks, of which there are few."""
    try:
        with transaction.atomic():
            return secrets.rotate()
    except UnknownWrappingKey as error:
        raise CommandError(str(error)) from error


def _pause() -> int:
    """Others are at all that is left, for a moment."""
    time.sleep(PATIENCE)
    return 0


def _told(done: Rotation, *, dry_run: bool) -> str:
    lines = [f"{name} encrypts {count:,} keys." for name, count in done.wrapped_by.items()] or ["There are no keys."]
    if dry_run:
        waiting = sum(count for name, count in done.wrapped_by.items() if name != done.encrypts)
        return "\n".join([*lines, f"{waiting:,} would be encrypted with {done.encrypts}."])
    lines = [f"{done.rotated:,} keys were encrypted anew with {done.encrypts}.", *lines]
    if done.not_needed:
        lines.append(f"Not needed any more, once every process has the new setting: {', '.join(done.not_needed)}.")
    return "\n".join(lines)
