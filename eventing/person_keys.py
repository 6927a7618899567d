"""The keys of persons: one each, kept in the database, encrypted with a key that only the environment has.

Who may read a key may read all that is known of its person, and who destroys it makes all of that unreadable, in every
copy at once. So no process keeps a key for longer than it takes to use it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from eventing.domain import Rejected
from eventing.statements import run

NONCE = 12  # bytes
KEY = 32

KEYS = "SELECT person, wrapped, wrapped_with FROM eventing_person_key WHERE person = ANY(%(persons)s)"

# Until the end of the transaction nobody can be forgotten of whom something is about to be stored.
HOLD = f"{KEYS} ORDER BY person FOR SHARE"

# In one order, so that two who make keys for the same persons don't wait in a circle.
MAKE = """
INSERT INTO eventing_person_key (person, wrapped, wrapped_with, created_at)
SELECT person, wrapped, %(name)s, statement_timestamp()
FROM unnest(%(persons)s::text[], %(wrapped)s::bytea[]) AS made (person, wrapped)
ORDER BY person
ON CONFLICT (person) DO NOTHING
"""

# Some keys that another one than this wraps, which nobody else is at.
TAKE_OLD = """
SELECT person, wrapped, wrapped_with FROM eventing_person_key
WHERE wrapped IS NOT NULL AND wrapped_with <> %(name)s AND wrapped_with = ANY(%(known)s)
ORDER BY person LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

LEFT = """
SELECT 1 FROM eventing_person_key
WHERE wrapped IS NOT NULL AND wrapped_with <> %(name)s AND wrapped_with = ANY(%(known)s) LIMIT 1
"""

WRAP_ANEW = """
UPDATE eventing_person_key SET wrapped = anew.wrapped, wrapped_with = %(name)s
FROM unnest(%(persons)s::text[], %(wrapped)s::bytea[]) AS anew (person, wrapped)
WHERE eventing_person_key.person = anew.person
"""

HOW_MANY = """
SELECT wrapped_with, count(*) FROM eventing_person_key WHERE wrapped IS NOT NULL GROUP BY wrapped_with ORDER BY 1
"""


class Forgotten(Rejected):
    """Something about a person was to be stored after that person was forgotten."""


class UnknownWrappingKey(LookupError):
    """A person's key is encrypted with a key that the environment doesn't have."""


class LostKey(LookupError):
    """A person's key isn't there, and wasn't destroyed by forgetting: then a row without a key would be."""


def keys_of(persons: Collection[str]) -> dict[str, AESGCM]:
    """The keys of those persons who aren't forgotten. Raises UnknownWrappingKey, and LostKey."""
    rows = run(KEYS, {"persons": list(persons)}) if persons else []
    if lost := sorted(set(persons) - {row[0] for row in rows}):
        raise LostKey(
            f"There's no key of {', '.join(lost)}, and nobody forgot them: rows of eventing_person_key were lost. "
            "Restore them from a backup."
        )
    return _unwrapped(rows)


def keys_to_seal(persons: Collection[str]) -> dict[str, AESGCM]:
    """The keys of all these persons, made where there are none, and held until the end of the transaction. Raises
    Forgotten, and UnknownWrappingKey."""
    rows = _held(persons)
    if missing := sorted(set(persons) - {row[0] for row in rows}):
        made = [_wrapped(person, AESGCM.generate_key(256)) for person in missing]
        run(MAKE, {"persons": missing, "wrapped": made, "name": _wrapping()[0]})
        rows = _held(persons)  # somebody else's may have come first
    for person, wrapped, _ in rows:
        if wrapped is None:
            raise Forgotten(
                f"{person} was forgotten, and nothing personal can be recorded of them any more. "
                "Should they come back, give them a new customer id."
            )
    return _unwrapped(rows)


def rotate(*, limit: int = 500) -> int:
    """Encrypt some keys anew with the first key of the environment, in the running transaction. Returns how many; none
    when all are, or others are at those that are left. A key whose old wrapping isn't known is left alone."""
    name, _ = _wrapping()
    rows = run(TAKE_OLD, {"name": name, "known": list(_wrappings()), "limit": limit})
    persons = [row[0] for row in rows]
    wrapped = [_wrapped(person, _unwrap(person, old, by)) for person, old, by in rows]
    run(WRAP_ANEW, {"name": name, "persons": persons, "wrapped": wrapped})
    return len(rows)


def are_rotated() -> bool:
    """Whether the first key of the environment encrypts all keys whose wrapping is known."""
    return not run(LEFT, {"name": _wrapping()[0], "known": list(_wrappings())})


def wrapped_by() -> dict[str, int]:
    """How many keys each key of the environment encrypts, by its name."""
    return dict(run(HOW_MANY))


def wrap(of: str, key: bytes) -> tuple[str, bytes]:
    """Any key or secret of somebody, encrypted as the keys of persons are; before it the name of what encrypts it."""
    return _wrapping()[0], _wrapped(of, key)


def unwrap(of: str, wrapped: bytes, by: str) -> bytes:
    """What `wrap` encrypted. Raises UnknownWrappingKey."""
    return _unwrap(of, wrapped, by)


def wrapping_names() -> list[str]:
    """The names of the environment's keys, the one that encrypts first."""
    return list(_wrappings())


def encrypted(cipher: AESGCM, plain: bytes, *, about: str) -> bytes:
    """Nonce and ciphertext. Decrypting them takes the same words ``about`` what it is."""
    nonce = os.urandom(NONCE)
    return nonce + cipher.encrypt(nonce, plain, about.encode())


def decrypted(cipher: AESGCM, sealed: bytes, *, about: str) -> bytes:
    """What was encrypted. Raises cryptography's InvalidTag."""
    return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], about.encode())


def sealed(plain: bytes, *, about: str) -> bytes:
    """What is kept for a while and may tell of many persons, encrypted likewise."""
    name, wrapped = wrap(about, plain)
    return name.encode() + b"\n" + wrapped


def opened(sealed: bytes, *, about: str) -> bytes:
    """What was sealed. Raises UnknownWrappingKey."""
    name, _, wrapped = sealed.partition(b"\n")
    return unwrap(about, wrapped, name.decode())


def _held(persons: Iterable[str]) -> list[tuple[Any, ...]]:
    wanted = sorted(persons)
    return run(HOLD, {"persons": wanted}) if wanted else []


def _unwrapped(rows: Iterable[tuple[Any, ...]]) -> dict[str, AESGCM]:
    return {person: AESGCM(_unwrap(person, wrapped, by)) for person, wrapped, by in rows if wrapped is not None}


def _unwrap(person: str, wrapped: bytes, by: str) -> bytes:
    try:
        return decrypted(AESGCM(_wrappings()[by]), bytes(wrapped), about=person)
    except KeyError:
        raise UnknownWrappingKey(
            f"The key of {person} is encrypted with {by!r}, which PERSONAL_DATA_KEYS doesn't have: put it back there."
        ) from None
    except InvalidTag:
        raise UnknownWrappingKey(
            f"The key of {person} is encrypted with another {by!r} than the one in PERSONAL_DATA_KEYS."
        ) from None


def _wrapped(person: str, key: bytes) -> bytes:
    return encrypted(AESGCM(_wrapping()[1]), key, about=person)


def _wrapping() -> tuple[str, bytes]:
    return next(iter(_wrappings().items()))


def _wrappings() -> Mapping[str, bytes]:
    keys: Mapping[str, bytes] = settings.EVENTING["PERSON_KEYS"]
    return keys
