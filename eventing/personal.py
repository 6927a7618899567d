"""Personal fields: sealed with a key of the person's own when they're stored, opened whenever they're read.

What is sealed says so itself, so it can be opened whatever the class declares by then:
``{"$personal": {"of": "<the person>", "sealed": "<nonce and ciphertext>", "else": null}}``, where ``else`` is what the
field reads as once the person is forgotten. AES-256-GCM; the person and the name of the field are part of the seal.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventing import person_keys
from eventing.domain import Personal
from eventing.person_keys import decrypted, encrypted

NAME = "$personal"
MARK = f'"{NAME}"'  # a text that says so stands in JSON as \"$personal\", which doesn't contain this
FORGOTTEN = "[forgotten]"
HIDDEN = "[hidden]"


class Unsealable(Exception):
    """Something was sealed with another key than its person's, or has been changed since."""


class Sealed(NamedTuple):
    """A value that can be stored, and the persons of whom it tells something."""

    data: Any
    persons: list[str]


class Field(NamedTuple):
    """A personal field: the fields that name its person, and what it reads as once that person is forgotten."""

    named_by: tuple[str, ...]
    otherwise: str | None


Rewrite = Callable[[str, str, Any, Field], Any]


def is_personal(kind: type) -> bool:
    """Whether values of a class have personal fields, in themselves or in their parts."""
    return issubclass(kind, msgspec.Struct) and bool(structs_in(kind))


def seal(values: Sequence[Any]) -> list[Sealed]:
    """Seal the personal fields of structs, wherever they are in these values, with one query for the keys. The events
    or rows that they become have to be stored in the same transaction. Raises Forgotten."""
    persons = [sorted({person for person, _ in _personal(value)}) for value in values]
    keys = person_keys.keys_to_seal({person for each in persons for person in each})

    def sealed(person: str, name: str, value: Any, field: Field) -> Any:
        text = encrypted(keys[person], msgspec.json.encode(value), about=f"{person} {name}")
        return {NAME: {"of": person, "sealed": b64encode(text).decode(), "else": field.otherwise}}

    return [Sealed(_rewritten(value, sealed), each) for value, each in zip(values, persons, strict=True)]


def hidden(value: Any) -> Any:
    """A struct as JSON data for those who may not see what is personal in it."""
    return msgspec.to_builtins(_rewritten(value, lambda person, name, each, field: HIDDEN))


def opened(texts: Sequence[str]) -> Sequence[str]:
    """The same JSON texts with what is sealed in them opened, or forgotten, with one query for the keys. Raises
    Unsealable."""
    documents = {number: msgspec.json.decode(text) for number, text in enumerate(texts) if MARK in text}
    if not documents:
        return texts
    keys = person_keys.keys_of({seal["of"] for document in documents.values() for seal in _seals(document)})
    plain = {number: _open(document, keys, "") for number, document in documents.items()}
    return [
        msgspec.json.encode(plain[number]).decode() if number in plain else each for number, each in enumerate(texts)
    ]


def masked(document: Any) -> Any:
    """JSON data with everything that is sealed in it hidden, for those who may not see it."""
    match document:
        case {"$personal": {"of": str(), "sealed": str()}} if len(document) == 1:
            return HIDDEN
        case dict():
            return {name: masked(each) for name, each in document.items()}
        case list() | tuple():
            return [masked(each) for each in document]
        case _:
            return document


def readable(documents: Sequence[Any], *, with_personal_data: bool) -> list[Any]:
    """JSON data as somebody may read it: what is sealed is opened, or hidden. Raises Unsealable."""
    if not with_personal_data:
        return [masked(document) for document in documents]
    texts = opened([msgspec.json.encode(document).decode() for document in documents])
    return [msgspec.json.decode(text) for text in texts]


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """The personal fields of a class, by name."""
    found = {}
    for name, hint in get_type_hints(struct, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Personal):
                found[name] = Field(mark.named_by, FORGOTTEN if hint.__origin__ is str else None)
    return found


def complaints(struct: type[msgspec.Struct]) -> Iterator[str]:
    """What is wrong with the personal fields that a class declares, if anything."""
    hints = get_type_hints(struct)
    for name, field in fields_of(struct).items():
        if unknown := [other for other in field.named_by if other not in struct.__struct_fields__]:
            yield f"{name!r} is of the person in {' or '.join(map(repr, unknown))}, which it doesn't have"
        if not field.named_by:
            yield f"{name!r} doesn't say in which field its person is"
        if hints[name] is not str and type(None) not in getattr(hints[name], "__args__", ()):
            yield f"{name!r} has nothing to read as once its person is forgotten: make it `str` or `… | None`"
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if any(_is_marked(part) for part in get_args(hint)):
            yield f"{name!r} is marked inside of its type, where it isn't seen: put all of the type into `Annotated`"


def _is_marked(hint: Any) -> bool:
    marks = getattr(hint, "__metadata__", ())
    return any(isinstance(mark, Personal) for mark in marks) or any(map(_is_marked, get_args(hint)))


@cache
def structs_in(kind: type) -> frozenset[type[msgspec.Struct]]:
    """The classes with personal fields of which a value of this class may be made."""
    found: set[type[msgspec.Struct]] = set()
    seen: set[type] = set()
    pending: list[Any] = [msgspec.inspect.type_info(kind)]
    while pending:
        info = pending.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            if fields_of(info.cls):
                found.add(info.cls)
        match info:
            case msgspec.Struct():
                pending += msgspec.structs.astuple(info)
            case tuple():
                pending += info
            case _:
                pass
    return frozenset(found)


def _personal(value: Any) -> Iterator[tuple[str, Any]]:
    """The personal values in a value, each with its person."""
    match value:
        case msgspec.Struct() if is_personal(type(value)):
            fields = fields_of(type(value))
            for name, each in msgspec.structs.asdict(value).items():
                if name not in fields:
                    yield from _personal(each)
                elif (person := _person_to_seal(value, fields[name], each)) is not None:
                    yield person, each
        case Mapping():
            for each in value.values():
                yield from _personal(each)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from _personal(each)
        case _:
            pass


def _person_to_seal(struct: msgspec.Struct, field: Field, value: Any) -> str | None:
    """The person of a field; None where there's nothing to seal, because it's empty or forgotten already. Raises
    ValueError for what would be stored in plain text, because nobody is named."""
    if value in (None, "", field.otherwise):
        return None
    for name in field.named_by:
        if (person := getattr(struct, name)) is not None:
            return str(person)
    raise ValueError(f"{type(struct).__name__} tells something of nobody: no person in {' or '.join(field.named_by)}.")


def _rewritten(value: Any, rewrite: Rewrite) -> Any:
    """A value with what is personal in it rewritten, wherever it stands."""
    match value:
        case msgspec.Struct() if is_personal(type(value)):
            return _tag(value) | {
                name: _rewritten_field(value, name, each, rewrite)
                for name, each in msgspec.structs.asdict(value).items()
            }
        case Mapping():
            return {name: _rewritten(each, rewrite) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_rewritten(each, rewrite) for each in value]
        case _:
            return value


def _rewritten_field(struct: msgspec.Struct, name: str, value: Any, rewrite: Rewrite) -> Any:
    field = fields_of(type(struct)).get(name)
    if field is None:
        return _rewritten(value, rewrite)
    person = _person_to_seal(struct, field, value)
    return value if person is None else rewrite(person, name, value, field)


def _tag(struct: msgspec.Struct) -> dict[str, Any]:
    """What tells a struct from the others of its union."""
    config = type(struct).__struct_config__
    return {config.tag_field: config.tag} if config.tag_field else {}


def _seals(document: Any) -> Iterator[dict[str, Any]]:
    match document:
        case {"$personal": {"of": str(), "sealed": str()} as seal} if len(document) == 1:
            yield seal
        case dict():
            for each in document.values():
                yield from _seals(each)
        case list():
            for each in document:
                yield from _seals(each)
        case _:
            pass


def _open(document: Any, keys: Mapping[str, AESGCM], field: str) -> Any:
    match document:
        case {"$personal": {"of": str(person), "sealed": str(sealed)} as seal} if len(document) == 1:
            if person not in keys:
                return seal.get("else")
            try:
                return msgspec.json.decode(decrypted(keys[person], b64decode(sealed), about=f"{person} {field}"))
            except InvalidTag as error:
                raise Unsealable(f"{field!r} of {person} was sealed with another key, or has been changed.") from error
        case dict():
            return {name: _open(each, keys, name) for name, each in document.items()}
        case list():
            return [_open(each, keys, field) for each in document]
        case _:
            return document
