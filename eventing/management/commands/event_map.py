from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventing.event_map import EventMap, event_map
from eventing.subscriptions import UnknownSubscription


class Command(BaseCommand):
    help = (
        "Print who emits and who consumes what, read off the code. Without an option as text, for reading. "
        "Exit codes: 0 printed, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--mermaid", action="store_true", help="as a Mermaid flow chart, for Markdown")
        form.add_argument("--json", action="store_true", help="one JSON document on standard output")

        parser.add_argument(
            "--only", nargs="+", default=[], metavar="SUBSCRIPTION", help="what these consume and send, and no more"
        )

    def handle(self, *args: Any, mermaid: bool, json: bool, only: list[str], **options: Any) -> None:
        try:
            flow = event_map(only=only)
        except UnknownSubscription as error:
            raise CommandError(str(error), returncode=2) from error
        if json:
            self.stdout.write(msgspec.json.encode(flow).decode())
        else:
            self.stdout.write("\n".join(as_mermaid(flow) if mermaid else as_text(flow)))


def as_text(flow: EventMap) -> Iterator[str]:
    """The map as lines to read."""
    yield "COMMANDS"
    for command in flow.commands:
        yield f"  {command.command}"
        yield f"      sent by     {', '.join(command.sent_by) or 'people, through the API or a command'}"
        yield f"      handled by  {', '.join(command.handled_by) or 'nobody'}"
    yield "EVENTS"
    for event in flow.events:
        yield f"  {event.event}  ({event.stored_name}, version {event.version})"
        yield f"      emitted by   {', '.join(event.emitted_by) or 'nobody'}"
        yield f"      consumed by  {', '.join(event.consumed_by) or 'nobody'}"


def as_mermaid(flow: EventMap) -> Iterator[str]:
    """The map as a flow chart: commands are asked of aggregates, which emit events, which others consume."""
    yield "flowchart LR"
    for command in flow.commands:
        for aggregate in command.asked_of:
            yield f"  {_box(command.command)} --> {_circle(aggregate)}"
        for sender in command.sent_by:
            yield f"  {_consumer(sender)} --> {_box(command.command)}"
    for event in flow.events:
        for aggregate in event.emitted_by:
            yield f"  {_circle(aggregate)} --> {_flag(event.event)}"
        for consumer in event.consumed_by:
            yield f"  {_flag(event.event)} --> {_consumer(consumer)}"


def _id(name: str) -> str:
    return name.replace(".", "_")


def _box(name: str) -> str:
    return f'{_id(name)}["{name}"]'


def _circle(name: str) -> str:
    return f'{_id(name)}(["{name}"])'


def _flag(name: str) -> str:
    return f'{_id(name)}>"{name}"]'


def _consumer(name: str) -> str:
    return f'{_id(name)}{{{{"{name}"}}}}'
