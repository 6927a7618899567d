"""What failures have in common: letters of one signature failed in the same place for the same reason."""

from __future__ import annotations

import os
import re
import sysconfig
from hashlib import sha256
from types import FrameType
from typing import NamedTuple

from django.conf import settings

LONGEST_MESSAGE = 300
LONGEST_READ = 1_000

# What differs from one letter to the next: what is quoted, addresses, ids, numbers.
_DIFFERS = re.compile(
    r"""(?P<quoted>(?<!\w)'[^']*'(?!\w)|"[^"]*")
      | (?P<address>[^\s@]+@[^\s@]+)
      | (?P<id>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b
            | \b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b)
      | (?P<number>\d[\d.,:/-]*\d|\d)""",
    re.VERBOSE,
)
_KIND = re.compile(r"[\w.]+:(?= )")
_MARKS = re.compile(r"[ |~^]*")
_INSTALLED = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


class Signature(NamedTuple):
    """Where and why a subscription failed at an event. ``frame`` is the innermost function of our own code that took
    part, such as ``payments.gateway.stripe.StripeGateway.charge``; ``message`` is the error's without what differs."""

    subscription: str
    event_type: str
    exception: str
    frame: str
    message: str

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for all of it."""
        return sha256("\n".join(self).encode()).hexdigest()[:16]


def signature_of(error: Exception, *, subscription: str, event_type: str) -> Signature:
    """The signature of a failure."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return Signature(
        subscription, event_type, f"{module}{kind.__qualname__}", _frame(error), normalised(told_by(error))
    )


def told_by(error: Exception) -> str:
    """What an error says, whatever that is: what PostgreSQL can't store is written as an escape."""
    try:
        said = str(error)
    except Exception:  # it's another's code, and to fail at telling of a failure would lose the failure
        said = "(it can't be told)"
    return storable(said)


def storable(text: str) -> str:
    """Text without NUL and lone surrogates, which stand as escapes instead."""
    return text.replace("\0", r"\x00").encode(errors="backslashreplace").decode()


def normalised(message: str) -> str:
    """The first line of a message, with a word in place of all that differs from one letter to the next."""
    first = message.strip().partition("\n")[0][:LONGEST_READ]  # what looks for addresses is slow with long words
    return _DIFFERS.sub(lambda found: f"<{found.lastgroup}>", first)[:LONGEST_MESSAGE]


def without_what_differs(told: str) -> str:
    """An error or a traceback for those who may not see personal data: what differs from one letter to the next, which
    may tell of a person, is taken out of all but the places in the code."""
    shown, follows_place = [], False
    for line in told.splitlines():
        is_place = line.lstrip(" |").startswith('File "')
        shown.append(line if is_place or follows_place or _MARKS.fullmatch(line) else _masked(line))
        follows_place = is_place
    return "\n".join(shown)


def _masked(line: str) -> str:
    kind = _KIND.match(line)
    return f"{kind[0]} {normalised(line[kind.end() :])}" if kind else normalised(line)


def _frame(error: Exception) -> str:
    innermost, step = "", error.__traceback__
    while step is not None:
        if _is_ours(step.tb_frame):
            innermost = f"{step.tb_frame.f_globals.get('__name__', '?')}.{step.tb_frame.f_code.co_qualname}"
        step = step.tb_next
    return innermost


def _is_ours(frame: FrameType) -> bool:
    """Whether a function stands in the project, and not in what is installed for it."""
    path = frame.f_code.co_filename
    return path.startswith(f"{settings.BASE_DIR}{os.sep}") and not path.startswith(_INSTALLED)
