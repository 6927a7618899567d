"""The keys of the environment that the keys of persons are encrypted with."""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode, b64encode

from django.core.exceptions import ImproperlyConfigured

BYTES = 32
HINT = 'Make one with: python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"'


def wrapping_keys(setting: str) -> dict[str, bytes]:
    """The keys by name, the one in use first, from ``name:base64,older:base64``. Raises ImproperlyConfigured."""
    keys: dict[str, bytes] = {}
    for part in filter(None, setting.split(",")):
        name, separator, text = part.strip().partition(":")
        if not (name and separator):
            raise ImproperlyConfigured(
                "PERSONAL_DATA_KEYS has to be name:key, or several of these with commas between."
            )
        if name in keys:
            raise ImproperlyConfigured(f"PERSONAL_DATA_KEYS has two keys named {name!r}.")
        keys[name] = _key(name, text)
    if setting and not keys:
        raise ImproperlyConfigured("PERSONAL_DATA_KEYS has no key in it.")
    return keys


def new_wrapping_key() -> str:
    """A setting with one new key."""
    return f"first:{b64encode(secrets.token_bytes(BYTES)).decode()}"


def _key(name: str, text: str) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except binascii.Error:
        raise ImproperlyConfigured(f"The key {name!r} in PERSONAL_DATA_KEYS isn't base64. {HINT}") from None
    if len(key) != BYTES:
        raise ImproperlyConfigured(
            f"The key {name!r} in PERSONAL_DATA_KEYS has {len(key)} bytes, and not {BYTES}. {HINT}"
        )
    return key
