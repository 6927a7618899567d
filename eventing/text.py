"""Text that people and PostgreSQL can read."""

from __future__ import annotations

import re

from eventing.domain import Rejected

_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Neither control characters, which PostgreSQL and people can't read, nor halves of a character.
_READABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


def check_text(what: str, text: str, longest: int, *, blank: bool = True) -> None:
    """Refuse text that can't be kept or shown. Raises Rejected, which says what is wrong with ``what``."""
    if not blank and not text.strip():
        raise Rejected(f"{what} is missing.")
    if len(text) > longest:
        raise Rejected(f"{what} has {len(text):,} characters; {longest:,} is the most.")
    if not _READABLE.fullmatch(text):
        raise Rejected(f"{what} has characters that can't be shown, such as control characters: {text!r}.")


def readable(text: str, longest: int) -> str:
    """What somebody else said, such as a gateway, as text that `check_text` takes: in one line, and cut."""
    return " ".join(_UNREADABLE.sub(" ", text).split())[:longest]
