"""Commands find their handler by its annotation, and are run against fresh state until nobody else was first."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar, get_type_hints, overload
from uuid import UUID

from django.db import transaction

from eventing import context, store
from eventing.domain import Aggregate, Command
from eventing.records import Stream

C = TypeVar("C", bound=Command)

logger = logging.getLogger(__name__)

CONFLICT_ATTEMPTS = 8
CONFLICT_PAUSE = 0.005  # seconds, doubled each time, with full jitter


class UnknownCommand(LookupError):
    """Nobody handles the command."""


Target = tuple[type[Aggregate[Any, Any]], UUID | str]
"""An aggregate by its class and id."""


class Handler(NamedTuple):
    """A function that carries out one kind of command, and the aggregates whose streams it queues for."""

    function: Callable[[Any], None]
    locks: Callable[[Any], Iterable[Target]] | None


_handlers: dict[type[Command], list[Handler]] = {}


@overload
def handles(function: Callable[[C], None]) -> Callable[[C], None]: ...
@overload
def handles(*, locks: Callable[[Any], Iterable[Target]]) -> Callable[[Callable[[C], None]], Callable[[C], None]]: ...
def handles(
    function: Callable[[C], None] | None = None, *, locks: Callable[[C], Iterable[Target]] | None = None
) -> Any:
    """Make a function the handler of the command that its parameter is annotated with.

    ``locks`` names, for a command, aggregates that many want to change at once, or that are several: the handler
    then waits for its turn instead of running into conflicts. A handler may be run more than once for one command,
    so it does nothing but load, ask and save.
    """

    def register(function: Callable[[C], None]) -> Callable[[C], None]:
        (parameter,) = inspect.signature(function).parameters
        command_type = get_type_hints(function)[parameter]
        _handlers.setdefault(command_type, []).append(Handler(function, locks))
        return function

    return register if function is None else register(function)


def handlers() -> dict[type[Command], list[Handler]]:
    """Every command that somebody handles, and who: exactly one, says the system check."""
    return _handlers


def handler_of(command_type: type[Command]) -> Handler:
    """The handler of a command. Raises UnknownCommand."""
    try:
        return _handlers[command_type][0]
    except KeyError:
        raise UnknownCommand(
            f"Nobody handles {command_type.__name__}: write a function with @handles whose parameter is "
            f"annotated with it, in the `handlers` module of its context."
        ) from None


def dispatch(command: Command, *, expected: store.Expected = store.ANY) -> list[store.Pending]:
    """Carry out a command, again on fresh state when somebody else was first. Returns the events it led to.

    Raises Rejected when the domain refuses, UnexpectedVersion for streams that aren't at one of the versions that are
    ``expected`` of them, and ConflictError when others were first each time.
    """
    return dispatch_all([command], expected=expected)


def dispatch_all(commands: Sequence[Command], *, expected: store.Expected = store.ANY) -> list[store.Pending]:
    """Carry out commands together: all of them, or none when one is refused. Returns and raises as `dispatch` does."""
    context.about_to("dispatch a command")
    if store.is_in_unit_of_work():
        raise RuntimeError("A handler can't dispatch: a conflict would repeat only a part of the work. Edit instead.")
    with context.because_of(context.current()):
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                return _carry_out(commands, expected)
            except store.ConflictError as conflict:
                if attempt == CONFLICT_ATTEMPTS - 1:
                    raise
                logger.debug("%s Trying again.", conflict)
                time.sleep(random.uniform(0, CONFLICT_PAUSE * 2**attempt))  # noqa: S311 - no secret
    raise AssertionError("unreachable")


def _carry_out(commands: Sequence[Command], expected: store.Expected) -> list[store.Pending]:
    queues = any(handler_of(type(command)).locks for command in commands)
    with _transaction(needed=queues), store.unit_of_work(expected) as work:
        prepare(work, commands)
        for command in commands:
            handler_of(type(command)).function(command)
        return work.flush()


def prepare(work: store.UnitOfWork, commands: Sequence[Command]) -> None:
    """Before commands are carried out together: queue for what they queue for, in one order, so that nobody waits in
    a circle; then load what they'll edit, with one query. Once a transaction."""
    handlers = [handler_of(type(command)) for command in commands]
    queued = {
        Stream.of(kind, id): kind(id)
        for handler, command in zip(handlers, commands, strict=True)
        if handler.locks is not None
        for kind, id in handler.locks(command)
    }
    store.queue_for(queued)
    if queued or len(commands) > 1:
        performances = [partial(handler.function, command) for handler, command in zip(handlers, commands, strict=True)]
        work.load(queued | work.rehearse(performances))


def _transaction(*, needed: bool) -> AbstractContextManager[Any]:
    """Locks last as long as a transaction; without them the one appending statement is enough."""
    return transaction.atomic() if needed else nullcontext()
