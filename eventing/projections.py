"""Projections: read models that follow the log. Written for one event; run for a whole batch with few statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args

from django.db import models

from eventing import context, personal
from eventing.records import Record
from eventing.rows import insert, new, save
from eventing.subscriptions import Subscription, accepts, consumed_by, name_of, subscribe

Row = TypeVar("Row", bound=models.Model)


class ReadModel(Generic[Row]):
    """What projections and listings have in common: the model in their class line, and a subscription of their own."""

    key: ClassVar[str]
    partitions: ClassVar[int] = 1
    version: ClassVar[int] = 1
    """Count it up when the same events make other rows: the read model then has to be replayed."""
    consuming: ClassVar[str]
    model: ClassVar[type[models.Model]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__ == __name__:
            return
        (cls.model,) = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]
        subscribe(ProjectionSubscription(cls()))

    def project(self, records: Sequence[Record]) -> None:
        """Bring the rows that these records concern up to date, in the running transaction."""
        raise NotImplementedError


class Projection(ReadModel[Row]):
    """One row for each value of the events' field ``key``, which is the row's primary key too.

    ``apply`` gets the row, or a new one, and changes it; all rows of a batch are fetched and written at once.
    An event whose row isn't to be kept sets nothing: rows that are new and unchanged are written all the same.
    """

    consuming = "apply"

    apply: Callable[..., None]
    """Change the ``row`` as the ``event`` says. A third parameter, ``record``, brings times and versions."""

    def project(self, records: Sequence[Record]) -> None:
        """Load the rows of the batch with one query, apply its events in order, write them with one upsert."""
        keys = [getattr(record.event, self.key) for record in records]
        takes_record = accepts(self.apply, "record")
        rows: dict[Any, Any] = self.model._default_manager.in_bulk(list(dict.fromkeys(keys)))
        for key, record in zip(keys, records, strict=True):
            row = rows.get(key)
            if row is None:
                row = rows[key] = new(self.model, key)
            if takes_record:
                self.apply(row, record.event, record)
            else:
                self.apply(row, record.event)
        save(self.model, rows.values())

    def as_told_by(self, key: Any, records: Iterable[Record]) -> Row | None:
        """The row that these events of one key make, for who doesn't wait for it; None when there are no events."""
        row: Any = None
        for record in records:
            row = row or new(self.model, key)
            self.apply(row, record.event, *([record] if accepts(self.apply, "record") else []))
        return cast("Row | None", row)


class Listing(ReadModel[Row]):
    """Rows that an event brings with it and nothing changes afterwards. ``key`` says which events keep their order."""

    consuming = "rows"

    rows: Callable[..., Iterator[Row]]
    """The rows that come with the ``event``. A second parameter, ``record``, brings times and versions."""

    def project(self, records: Sequence[Record]) -> None:
        """Insert the rows of the batch with one statement."""
        if accepts(self.rows, "record"):
            rows = [row for record in records for row in self.rows(record.event, record)]
        else:
            rows = [row for record in records for row in self.rows(record.event)]
        insert(self.model, rows)


class ProjectionSubscription(Subscription):
    """A projection's place in the log. It begins at the beginning, and is the only kind that can be replayed."""

    kind = "projection"
    starts_at_head = False

    def __init__(self, projection: ReadModel[Any]) -> None:
        super().__init__(
            name=name_of(type(projection)),
            events=consumed_by(getattr(projection, projection.consuming)),
            key=projection.key,
            partitions=projection.partitions,
        )
        self.projection = projection
        self.version = projection.version

    @property
    def tells_of_persons(self) -> bool:
        """Whether its rows may say what events tell of a person."""
        return any(personal.is_personal(event) for event in self.events)

    def handle(self, records: Sequence[Record], partition: int) -> int:
        """Project a batch. It may be a replay: a projection that acts on the world would do again what it did."""
        with context.only_looking(f"The projection {self.name}"):
            self.projection.project(records)
        return len(records)
