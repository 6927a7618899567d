"""Who did what as an operator: Django's own log, which the admin shows beside each object."""

from __future__ import annotations

import getpass
from typing import Any

import msgspec
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

SHELL = "shell"


def note(who: User, act: str, on: Model, **details: Any) -> LogEntry:
    """Write down an act on an object, with what says how much it was: which filter, how many, for what reason.

    In the transaction that did it, so that neither is there without the other."""
    return LogEntry.objects.create(
        user_id=who.pk,
        content_type=ContentType.objects.get_for_model(type(on)),
        object_id=str(on.pk),
        object_repr=str(on)[:200],
        action_flag=CHANGE,
        change_message=msgspec.json.encode({"act": act, **details}).decode(),
    )


def told(entry: LogEntry) -> dict[str, Any]:
    """What `note` wrote; what others wrote in the log is their message alone."""
    try:
        said = msgspec.json.decode(entry.change_message)
    except msgspec.DecodeError:
        said = None
    return said if isinstance(said, dict) else {"act": entry.get_change_message()}


def shell_user() -> User:
    """The account on whose behalf `manage.py` acts: nobody can log in with it."""
    user, is_new = User.objects.get_or_create(username=SHELL, defaults={"is_active": False})
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def shell_name() -> str:
    """Who sits at the shell, as far as the operating system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
