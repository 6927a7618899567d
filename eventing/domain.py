"""What a domain is made of, in plain Python: facts, requests, and the things that decide between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, Generic
from uuid import UUID

import msgspec
from typing_extensions import TypeVar, dataclass_transform


class Rejected(Exception):
    """The domain says no: the request breaks a rule. The message is for the person who asked."""


M = TypeVar("M", bound="FrozenMeta")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class FrozenMeta(msgspec.StructMeta):
    """Makes immutable structs whose fields are given by name, without each class having to say so."""

    def __new__(
        mcls: type[M], class_name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> M:
        return super().__new__(mcls, class_name, bases, namespace, **{"frozen": True, "kw_only": True, **options})


class Value(msgspec.Struct, metaclass=FrozenMeta):
    """A part of events and commands that is equal to any other with the same contents."""


class Command(msgspec.Struct, metaclass=FrozenMeta):
    """A request in the imperative: handled once, or rejected."""


class Personal:
    """Marks a field that tells of a person: it's stored sealed with a key of the person's own, and reads as forgotten
    once that key is destroyed.

    ``contact: Annotated[Contact | None, Personal("customer_id", "order_id")] = None``: the person is the value of the
    first of these fields that has one. Forgotten, a field is None, or ``[forgotten]`` where it's a text.
    """

    def __init__(self, *named_by: str) -> None:
        self.named_by = named_by


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class EventMeta(FrozenMeta):
    """Takes an event's stored name and schema version from its class line, and hands the rest to msgspec."""

    def __new__(
        mcls,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        name: str = "",
        version: int = 1,
        **options: Any,
    ) -> EventMeta:
        named = {**namespace, "stored_name": name, "schema_version": version}
        return super().__new__(mcls, class_name, bases, named, **options)


class Event(msgspec.Struct, metaclass=EventMeta):
    """A fact in the past tense, stored for ever.

    ``class OrderPlaced(Event, name="orders.order_placed", version=2)``: the name is what the log keeps, so the
    class may move and be renamed while the name may not; the version counts the changes of its fields.
    """

    stored_name: ClassVar[str]
    schema_version: ClassVar[int]


E = TypeVar("E", bound=Event)
Id = TypeVar("Id", bound=UUID | str, default=UUID)


class Aggregate(Generic[E, Id]):
    """What decides: its methods check the rules and ``record`` events, its ``apply`` follows without asking.

    ``class Order(Aggregate[OrderEvent], category="order")``: the category and the id together name its stream.
    Where streams grow long, ``snapshot_every=100`` lets the store keep its state every so many events; each attribute
    then needs a type: an annotation in the class, or a first value there. An attribute that repeats a personal field of
    an event has to be marked `Personal` itself; the field that names its person is an attribute too.
    """

    category: ClassVar[str] = ""
    snapshot_every: ClassVar[int] = 0

    def __init_subclass__(cls, *, category: str = "", snapshot_every: int = 0, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.category, cls.snapshot_every = category, snapshot_every

    def __init__(self, id: Id) -> None:
        self.id: Id = id
        self.version = 0
        self.last_event_id: UUID | None = None
        self.recorded: list[E] = []

    @abstractmethod
    def apply(self, event: E) -> None:
        """Change the state as the event says. It happened: no rule is asked again."""

    def record(self, event: E) -> None:
        """Let the event have happened: apply it, and keep it for the store."""
        self.apply(event)
        self.version += 1
        self.recorded.append(event)


class TimedOut(Value):
    """A reminder that a saga set for itself has come due."""

    about: str


class Resumed(Value):
    """A person wants a saga to go on. What it asked for and didn't get, it may ask for again."""


class CommandRejected(Value):
    """A command that a saga sent was refused by the domain."""

    command: Command
    reason: str


class GivenUp(Value):
    """An effect has given up what it was to do about ``event``, so its outcome won't come by itself: the letter of this
    number waits for a person."""

    event: Event
    letter: int


DEADLINE, RESUMED, GIVEN_UP, FAILED = "deadline", "resumed", "given up: letter ", "FAILED"


class Saga(msgspec.Struct, kw_only=True):
    """A process over several streams: events in, commands out. Its fields are its memory.

    ``id`` is the value of the correlation field that its events share. Once its state is one of ``final``
    its reminders are dropped; events may still come, and it answers those too. In the state FAILED it needs a person,
    whom ``reason`` tells why.
    """

    begins_with: ClassVar[type[Event]]
    correlation: ClassVar[str]
    final: ClassVar[frozenset[str]] = frozenset({"COMPLETED", "COMPENSATED", FAILED})

    id: UUID
    state: str = "STARTED"
    reason: str = ""
    reminders: dict[str, timedelta] = {}

    @classmethod
    def is_begun_by(cls, event: Event) -> bool:
        """Whether this event begins a new saga; overridden where not every one of ``begins_with`` does."""
        return isinstance(event, cls.begins_with)

    def react(self, event: Any) -> Iterator[Command]:
        """What is to be done now that this has happened. Subclasses narrow the parameter to what they consume."""
        raise NotImplementedError

    def remind_me(self, *, after: timedelta, about: str = DEADLINE) -> None:
        """Ask for a ``TimedOut`` in this much time; a later call with the same subject replaces it.
        By its deadline it should have ended: operators see those that haven't."""
        if about == RESUMED:
            raise ValueError(f"A reminder can't be about {RESUMED!r}: that is how a person's wish reaches a saga.")
        if about.startswith(GIVEN_UP):
            raise ValueError(f"A reminder can't be about {about!r}: that is how a saga hears of what was given up.")
        self.reminders[about] = after
