"""The state of an aggregate as text, for snapshots: its attributes, without knowing what they mean.

An attribute's type is its annotation in the class, or else the type of the value that the class gives it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from types import NoneType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, get_origin, get_type_hints
from uuid import UUID

import msgspec

from eventing import personal
from eventing.domain import Aggregate
from eventing.kinds import Kind, emitted_by
from eventing.upcasting import upcasters

A = TypeVar("A", bound=Aggregate[Any, Any])

EVERYBODYS = {"id", "version", "last_event_id", "recorded"}  # attributes that aren't state


class Form(NamedTuple):
    """How the state of a kind of aggregate is written and read, and what tells it from that of other code."""

    shape: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[msgspec.Struct]
    fingerprint: str


_forms: dict[Kind, Form] = {}


def state_of(aggregate: Aggregate[Any, Any]) -> dict[str, Any]:
    """What its events have made of an aggregate, attribute by attribute."""
    return {name: getattr(aggregate, name) for name in _types(type(aggregate))}


def write(aggregate: Aggregate[Any, Any]) -> str:
    """The state as JSON text, to be stored in the same transaction because personal fields are sealed in it. Raises
    TypeError for what JSON can't say, and Forgotten."""
    (sealed,) = personal.seal([_form(type(aggregate)).shape(**state_of(aggregate))])
    return msgspec.json.encode(sealed.data).decode()


def read(kind: type[A], id: UUID | str, text: str) -> A:
    """An aggregate in the state that was written, once what is sealed in it was opened. Raises
    msgspec.ValidationError for a text of another shape."""
    aggregate = kind(id)
    for name, value in msgspec.structs.asdict(_form(kind).decoder.decode(text)).items():
        setattr(aggregate, name, value)
    return aggregate


def fingerprint(kind: Kind) -> str:
    """Changes with the shape of the state and with what makes it: the text of the class, and of the upcasters of its
    events. Functions elsewhere that these call aren't seen."""
    return _form(kind).fingerprint


class Change(msgspec.Struct, frozen=True):
    """An attribute that is different; of a set only the members that left and that came."""

    attribute: str
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any], inside: str = "") -> Iterator[Change]:
    """What is different between two states, field by field where an attribute has fields."""
    for name, old in before.items():
        match old, after[name]:
            case _, new if new == old:
                pass
            case msgspec.Struct(), msgspec.Struct() as new if type(new) is type(old):
                yield from changes(msgspec.structs.asdict(old), msgspec.structs.asdict(new), f"{inside}{name}.")
            case set() | frozenset(), set() | frozenset() as new:
                yield Change(f"{inside}{name}", sorted(old - new, key=str), sorted(new - old, key=str))
            case _, new:
                yield Change(f"{inside}{name}", old, new)


def complaints(kind: Kind) -> Iterator[str]:
    """Why the state of a kind of aggregate can't be written and read back, if it can't."""
    new, types = kind(""), _types(kind)
    for name in sorted(vars(new).keys() - EVERYBODYS - types.keys()):
        yield f"{name!r} isn't declared in the class"
    for name, type_ in types.items():
        if not hasattr(new, name):
            yield f"{name!r} has no value before the first event"
        try:
            if type_ is NoneType or not _is_known(msgspec.inspect.type_info(type_)):
                yield f"{name!r} doesn't say what it is or holds"
        except TypeError as error:
            yield f"{name!r} can't be told from JSON: {error}"


def _form(kind: Kind) -> Form:
    if kind not in _forms:
        shape = msgspec.defstruct(f"{kind.__name__}State", list(_types(kind).items()))
        steps = [step for (event, _), found in upcasters().items() if event in emitted_by(kind) for step in found]
        made_by = [_source(each) for each in [*_lineage(kind), *steps]]
        made_of = msgspec.json.encode([msgspec.json.schema(shape), made_by], order="deterministic")
        _forms[kind] = Form(shape, msgspec.json.Decoder(shape), sha256(made_of).hexdigest())
    return _forms[kind]


def _source(code: Any) -> str:
    with suppress(OSError, TypeError):  # there is none in a frozen program
        return inspect.getsource(code)
    return ""


def _lineage(kind: Kind) -> list[type]:
    """The class and what it inherits of other code than ours."""
    return [each for each in kind.__mro__ if each not in (Aggregate, Generic, object)]


def _types(kind: Kind) -> dict[str, Any]:
    annotated = get_type_hints(kind, include_extras=True)
    assigned = {
        name: type(value)
        for each in reversed(_lineage(kind))
        for name, value in vars(each).items()
        if not (name.startswith("__") or hasattr(value, "__get__") or isinstance(value, type))
    }
    return {
        name: type_ for name, type_ in sorted({**assigned, **annotated}.items()) if get_origin(type_) is not ClassVar
    }


def _is_known(info: Any) -> bool:
    """Whether a type, as msgspec describes it, is one that can be read back, down to its last part."""
    match info:
        case msgspec.inspect.AnyType() | msgspec.inspect.CustomType():
            return False
        case msgspec.Struct():
            return all(map(_is_known, msgspec.structs.astuple(info)))
        case tuple():
            return all(map(_is_known, info))
        case _:
            return True
