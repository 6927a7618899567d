"""Replays: read models built anew from the log, beside the live ones, which go on being read and updated.

A replay is a row, its `Replay`. Whoever runs it goes on from what the database says, so a replay that was killed is
taken up by the next process that asks; whoever pauses or cancels it writes that into the row. Nothing but a projection
can be replayed: sagas and effects would do again what they did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
from django.db import DatabaseError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now
from django.utils import timezone
from psycopg.errors import DeadlockDetected, LockNotAvailable

from eventing import checkpoints, deliveries, nudges, shadows
from eventing.advance import advance, retry_due
from eventing.comparison import Comparison, compare
from eventing.domain import Rejected
from eventing.models import Checkpoint, Delivery, Replay
from eventing.nudges import Nudge
from eventing.projections import ProjectionSubscription
from eventing.shadows import Shadow, positions, previous_of, shadow_of, table_of
from eventing.statements import run as run_statement
from eventing.subscriptions import subscription_named, subscriptions

logger = logging.getLogger(__name__)

BATCH = 2000
LEASE = timedelta(seconds=10)  # a process that hasn't been heard of for as long is taken to be dead
PATIENCE = 0.2  # seconds between looks at a replay that is paused or has to wait

OUTDATED = "Its code or its table has changed since it began."

# A worker's claim to a replay, for as long as it works on it or lives. The first number says what the second counts.
TEND = "SELECT pg_try_advisory_lock(7236, %(replay)s::int)"
LEAVE = "SELECT pg_advisory_unlock(7236, %(replay)s::int)"
TENDED = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database AND datname = current_database()
    WHERE locktype = 'advisory' AND classid = 7236 AND objid = %(replay)s::int::oid AND objsubid = 2
)
"""


class NotReplayable(Exception):
    """Only projections can be replayed."""


class NoReplay(Rejected):
    """There is no replay that this could be done to."""


class Busy(Rejected):
    """Another process is at this replay."""


class Failed(Exception):
    """The replay ended without touching the live read model."""


class Removed(NamedTuple):
    """Projections that can't be rolled back any more, and those of which a replay was cancelled."""

    kept: list[str]
    cancelled: list[str]


class Progress(NamedTuple):
    """How far a replay has come, and has to go: positions of the log, summed up over all partitions."""

    position: int
    target: int


def projections() -> list[ProjectionSubscription]:
    """Everything that can be replayed."""
    return [each for each in subscriptions() if isinstance(each, ProjectionSubscription)]


def projection_named(name: str) -> ProjectionSubscription:
    """The projection of this name. Raises UnknownSubscription or NotReplayable."""
    subscription = subscription_named(name)
    if not isinstance(subscription, ProjectionSubscription):
        article = "an" if subscription.kind[0] in "aeiou" else "a"
        raise NotReplayable(
            f"{name} is {article} {subscription.kind}, which can't be replayed: it would do again what it did. "
            f"Projections are: {', '.join(each.name for each in projections())}."
        )
    return subscription


def needing_replay() -> list[str]:
    """Projections whose read model was built by another version of them."""
    declared = {each.name: each.version for each in projections()}
    built = Checkpoint.objects.filter(subscription__in=declared).values_list("subscription", "version").distinct()
    return sorted({name for name, version in built if version != declared[name]})


def start(
    projection: ProjectionSubscription,
    *,
    in_place: bool = False,
    verify_only: bool = False,
    with_failures: bool = False,
    until: int | None = None,
    asks_first: bool = False,
    by_workers: bool = False,
    by: str = "",
) -> Replay:
    """Begin a replay, or take up the one that is open, with these options from now on. It's still to be `run`, unless
    that is left to the workers. One that ``asks_first`` waits, once compared, until somebody says `exchange`.

    Raises NotShadowable, and Busy where one of the other manner is open.
    """
    with transaction.atomic():
        replay, was_paused = _open_replay(projection), _is_paused(projection)
        if replay is not None and replay.in_place != in_place:
            raise Busy(
                f"A replay of {projection.name} {'in place' if replay.in_place else 'beside the live one'} is open. "
                f"Go on with it{'' if replay.in_place else ', or cancel it,'} first."
            )
        if replay is not None and _is_outdated(projection, replay):
            was_paused |= replay.was_paused
            _close(replay, Replay.State.CANCELLED, error=OUTDATED)
            replay = None
        if replay is None:
            replay = Replay(projection=projection.name, version=projection.version, in_place=in_place, started_by=by)
            replay.was_paused, replay.skipped = was_paused, _skipped(projection)
            _prepare(projection, in_place=in_place)
        options = {
            "verify_only": verify_only,
            "with_failures": with_failures,
            "until": until,
            "asks_first": asks_first,
            "by_workers": by_workers,
        }
        if is_tended(replay):
            if any(getattr(replay, name) != value for name, value in options.items()):
                raise Busy(f"Another process is replaying {projection.name}, with other options. Cancel that first.")
            return replay
        for name, value in options.items():
            setattr(replay, name, value)
        replay.state, replay.comparison = Replay.State.BUILDING, None
        replay.save()
        if by_workers:
            transaction.on_commit(partial(nudges.send, [nudge_for(projection)]))
    return replay


def run(replay: Replay) -> Generator[Replay]:
    """Go on with a replay until it has ended. Yields it after each step, as its row is by then.

    Raises Busy when another process is at it, and Failed when events couldn't be projected.
    """
    runner = uuid4()
    _take_up(replay, runner)
    projection, started, before = projection_named(replay.projection), time.monotonic(), replay.position
    try:
        for progress in (_in_place if replay.in_place else _beside)(projection, replay):
            rate = (progress.position - before) / max(time.monotonic() - started, 1e-6)
            _report(replay, runner, position=progress.position, target=progress.target, rate=rate)
            yield replay
            while replay.state == Replay.State.PAUSED:
                time.sleep(PATIENCE)
                _report(replay, runner)
                yield replay
            if replay.state != Replay.State.BUILDING:
                return
    except (shadows.Gone, ProgrammingError):
        _report(replay, runner)
        if replay.state in Replay.OPEN:
            raise  # it wasn't somebody else who ended it
    finally:
        with suppress(DatabaseError):  # then it's taken up once the lease is over
            Replay.objects.filter(pk=replay.pk, runner=runner).update(runner=None)


def work_on(projection: ProjectionSubscription, *, budget: float) -> bool:
    """Go on with a replay that is left to the workers, for some seconds. Returns whether it's worth going on.

    One worker is at it at a time: each holds a lock that ends with its session, so one that was killed keeps no other
    waiting, and one that is at a long statement isn't taken to be dead.
    """
    replay = Replay.objects.filter(projection=projection.name, state=Replay.State.BUILDING, by_workers=True).first()
    if replay is None or not run_statement(TEND, {"replay": replay.pk})[0][0]:
        return False
    try:
        return _work_on(projection, replay, until=time.monotonic() + budget)
    finally:
        with suppress(DatabaseError):  # then the session is gone, and the lock with it
            run_statement(LEAVE, {"replay": replay.pk})


def _work_on(projection: ProjectionSubscription, replay: Replay, *, until: float) -> bool:
    if _is_outdated(projection, replay):
        _close(replay, Replay.State.CANCELLED, error=OUTDATED)
        return False
    Replay.objects.filter(pk=replay.pk, by_workers=True).update(runner=None)  # who was at it before us is dead
    try:
        with closing(run(replay)) as steps:
            for step in steps:
                if step.state != Replay.State.BUILDING:
                    return False
                if time.monotonic() > until:
                    return True
    except (Busy, Failed) as error:
        logger.warning("The replay of %s: %s", projection.name, error)
    except OperationalError:
        raise  # the server's fault: it's taken up again
    except Exception as error:
        _close(replay, Replay.State.FAILED, error=deliveries.describe(error))
        raise
    return False


def unfinished() -> list[str]:
    """The projections whose replay is left to the workers, and is to go on."""
    left = Replay.objects.filter(state=Replay.State.BUILDING, by_workers=True)
    return list(left.values_list("projection", flat=True))


def nudge_for(projection: ProjectionSubscription) -> Nudge:
    """Says that a replay is to go on."""
    return Nudge(nudges.REPLAY, (projection.name,))


def rebuild(projection: ProjectionSubscription, **options: Any) -> Replay:
    """Replay a projection from `start` to end, here and now. Returns the replay."""
    replay = start(projection, **options)
    for _ in run(replay):
        pass
    return replay


def pause(projection: ProjectionSubscription) -> Replay:
    """Let whoever runs a replay wait. Raises NoReplay."""
    return _set(projection, Replay.State.BUILDING, Replay.State.PAUSED)


def resume(projection: ProjectionSubscription) -> Replay:
    """Let it go on. Raises NoReplay."""
    return _set(projection, Replay.State.PAUSED, Replay.State.BUILDING)


def exchange(projection: ProjectionSubscription) -> Replay:
    """Let what was built, and compared, take the live one's place. It's still to be `run`, unless that is left to the
    workers. Raises NoReplay."""
    return _set(projection, Replay.State.COMPARED, Replay.State.BUILDING, asks_first=False)


def give_up_outdated(projection: ProjectionSubscription) -> None:
    """Cancel a replay that is open if it doesn't fit the program any more. Raises NoReplay if so."""
    with transaction.atomic():
        replay = _open_replay(projection)
        outdated = replay is not None and _is_outdated(projection, replay)
        if replay is not None and outdated:
            _close(replay, Replay.State.CANCELLED, error=OUTDATED)
    if outdated:
        raise NoReplay(f"{projection.name}: {OUTDATED} Start another.")


def cancel(projection: ProjectionSubscription) -> Replay:
    """Give a replay up, and remove what it built. Raises NoReplay, also for one in place: its old rows are gone."""
    with transaction.atomic():
        replay = _open_replay(projection)
        if replay is None:
            raise NoReplay(f"There is no open replay of {projection.name}.")
        if replay.in_place:
            raise NoReplay(
                f"The replay of {projection.name} is in place: its old rows are gone, so it has to be finished. "
                f"Go on with `manage.py replay_projection {projection.name} --in-place`."
            )
        _close(replay, Replay.State.CANCELLED)
    return replay


def roll_back(projection: ProjectionSubscription, *, patience: float | None = None) -> Replay:
    """Put the read model from before the last replay back, brought up to date. Raises NoReplay, and Busy when readers
    were in the way for longer than ``patience`` seconds."""
    until = None if patience is None else time.monotonic() + patience
    previous = previous_of(projection)
    with transaction.atomic():
        if _open_replay(projection) is not None:
            raise NoReplay(f"A replay of {projection.name} is open. Let it finish, or cancel it, first.")
        replay = Replay.objects.filter(projection=projection.name, state=Replay.State.DONE, in_place=False).last()
        if replay is None or not shadows.exists(previous):
            raise NoReplay(f"Nothing is kept from before the last replay of {projection.name}.")
        if len(previous.positions()) != projection.partitions or not shadows.fits(previous):
            raise NoReplay(
                f"What is kept of {projection.name} doesn't fit any more: its table or its split has changed."
            )
        while not _exchange(previous, keep=False, follow=True):
            if until is not None and time.monotonic() > until:
                raise Busy(f"Readers of {projection.name} are in the way. Try again.")
            time.sleep(PATIENCE)
        _close(replay, Replay.State.ROLLED_BACK)
    nudges.send(projection.nudges)
    return replay


def latest() -> list[Replay]:
    """The last replay of each projection that ever had one."""
    return list(Replay.objects.order_by("projection", "-pk").distinct("projection"))


def comparison_of(replay: Replay) -> Comparison | None:
    """What was found different; None when nothing was compared."""
    return msgspec.convert(replay.comparison, Comparison) if replay.comparison else None


def is_tended(replay: Replay) -> bool:
    """Whether a process is at it, as far as is known."""
    heard = replay.runner is not None and replay.seen_at is not None and timezone.now() - replay.seen_at < LEASE
    return heard or bool(run_statement(TENDED, {"replay": replay.pk})[0][0])


def remove_copies() -> Removed:
    """Remove every read model that is kept from before a replay, or being built beside the live one, and what replays
    showed of differences and errors: they may tell of a person who is to be forgotten."""
    cancelled = []
    for projection in projections():
        with suppress(NoReplay):
            cancelled.append(cancel(projection).projection)
    kept = [projection for projection in projections() if shadows.exists(previous_of(projection))]
    for projection in kept:
        shadows.drop(previous_of(projection))
    Replay.objects.filter(comparison__isnull=False).update(
        comparison=Func(F("comparison"), Value("{differences}"), Value("[]"), function="jsonb_set")
    )
    Replay.objects.filter(state=Replay.State.FAILED).update(error="Removed, because a person was forgotten.")
    return Removed(kept=[projection.name for projection in kept], cancelled=cancelled)


def _beside(projection: ProjectionSubscription, replay: Replay) -> Iterator[Progress]:
    """Build up to where the live one is, compare there, go on to the end, and exchange. A replay that stops elsewhere
    has nothing to compare with."""
    shadow, comparable = shadow_of(projection), replay.until is None and _split_alike(projection)
    if comparable:
        yield from _build(shadow, shadow.positions, lambda: positions(projection))
    else:
        yield from _build(shadow, shadow.positions, lambda: _end(projection, replay))
    shadows.complete(shadow)
    _skip_again(shadow, replay)
    if comparable:
        yield from _build(shadow, shadow.positions, lambda: positions(projection))
        if replay.comparison is None:  # what somebody has seen and agreed to isn't compared again
            replay.comparison = msgspec.to_builtins(_compare(shadow))
            replay.save(update_fields=["comparison"])
    if replay.verify_only:
        _check_failures(shadow, replay)
        _close(replay, Replay.State.VERIFIED)
        return
    if replay.asks_first:
        _check_failures(shadow, replay)
        Replay.objects.filter(pk=replay.pk, state=Replay.State.BUILDING).update(state=Replay.State.COMPARED)
        replay.refresh_from_db()
        return
    yield from _build(shadow, shadow.positions, lambda: _end(projection, replay))
    _check_failures(shadow, replay)
    while not _take_its_place(shadow, replay):
        yield Progress(replay.position, replay.target)
    nudges.send(projection.nudges)


def _in_place(projection: ProjectionSubscription, replay: Replay) -> Iterator[Progress]:
    """Build where readers read. Live updates go on from where it ends."""
    yield from _build(
        projection,
        lambda: positions(projection),
        lambda: _end(projection, replay),
        state=Checkpoint.State.REPLAYING,
    )
    with transaction.atomic():
        Checkpoint.objects.filter(subscription=projection.name).update(
            state=Checkpoint.State.RUNNING, version=projection.version
        )
        _skip_again(projection, replay)
        if replay.was_paused:
            checkpoints.pause(projection)
        _close(replay, Replay.State.DONE)
    nudges.send(projection.nudges)


def _build(
    subscription: ProjectionSubscription,
    reached: Callable[[], dict[int, int]],
    wanted: Callable[[], dict[int, int]],
    *,
    state: Checkpoint.State = Checkpoint.State.RUNNING,
) -> Iterator[Progress]:
    """Move each partition on until it has reached what is wanted, which may move on too."""
    for partition in range(subscription.partitions):
        while reached()[partition] < (target := wanted()[partition]):
            if not advance(subscription, partition, state=state, batch=BATCH, until=target):
                time.sleep(PATIENCE)  # a batch was begun and not ended: it isn't given up before a second is over
            yield Progress(sum(reached().values()), sum(wanted().values()))


def _end(projection: ProjectionSubscription, replay: Replay) -> dict[int, int]:
    end = checkpoints.head() if replay.until is None else replay.until
    return dict.fromkeys(range(projection.partitions), end)


def _compare(shadow: Shadow) -> Comparison:
    """Bring the shadow to exactly where the live one is, as one snapshot sees it, and compare. Nobody is held up."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        shadow.follow({partition: positions(shadow)[partition] for partition in range(shadow.partitions)})
        return compare(shadow)


def _take_its_place(shadow: Shadow, replay: Replay) -> bool:
    """Exchange, unless the replay was stopped meanwhile. Returns whether it's done."""
    with transaction.atomic():
        if Replay.objects.select_for_update().get(pk=replay.pk).state != Replay.State.BUILDING:
            return False
        if not _exchange(shadow, keep=True, follow=replay.until is None):
            return False
        Checkpoint.objects.filter(subscription=shadow.name).update(version=shadow.version)
        _close(replay, Replay.State.DONE)
    return True


def _exchange(shadow: Shadow, *, keep: bool, follow: bool) -> bool:
    """Let the shadow take the live one's place, after it has seen all that the live one has. Returns whether it did:
    readers may be in the way, and for longer than a moment nobody should have to wait for them."""
    try:
        with transaction.atomic():
            live, paused = shadows.hold_live(shadow), _is_paused(shadow)
            if follow:
                shadow.follow(dict.fromkeys(shadow.positions(), max(live.values(), default=0)))
            shadows.exchange(shadow, keep_in=previous_of(shadow) if keep else None)
            if paused:
                checkpoints.pause(shadow)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
            return False
        raise
    return True


def _skip_again(subscription: ProjectionSubscription, replay: Replay) -> None:
    """Give up the events that somebody gave up before the replay, for the same reasons, and let those behind go on."""
    with subscription.transaction():
        for position, reason in replay.skipped.items():
            letters = Delivery.objects.filter(subscription=subscription.name, position=int(position))
            deliveries.skip(letters, reason=reason)
        for partition in range(subscription.partitions):
            while retry_due(subscription, partition):
                pass


def _check_failures(shadow: Shadow, replay: Replay) -> None:
    """Raises Failed when events couldn't be projected, unless that's allowed."""
    with shadow.transaction():
        stuck = Delivery.objects.filter(subscription=shadow.name, state__in=Delivery.OPEN).order_by("position")
        first, count = stuck.exclude(error="").first(), stuck.count()
    if first is None or replay.with_failures:
        return
    error = (
        f"{count:,} events couldn't be projected, or wait behind one that couldn't; the first is at position "
        f"{first.position:,}, of {first.sequence}: {first.error}"
    )
    _close(replay, Replay.State.FAILED, error=error)
    raise Failed(
        f"{error}. The live read model is as it was. Mend the projection and replay again; or say --with-failures, "
        "and they'll be letters of the new one."
    )


def _prepare(projection: ProjectionSubscription, *, in_place: bool) -> None:
    if not in_place:
        shadows.make(shadow_of(projection))
        return
    shadows.hold_live(projection)
    shadows.drop(previous_of(projection))
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {connection.ops.quote_name(table_of(projection))}")
    Delivery.objects.filter(subscription=projection.name).delete()
    Checkpoint.objects.filter(subscription=projection.name).update(
        state=Checkpoint.State.REPLAYING, position=0, attempts=0, begun_at=None, careful_until=0
    )


def _is_outdated(projection: ProjectionSubscription, replay: Replay) -> bool:
    """Whether what was built so far wouldn't fit what would be built now."""
    if replay.version != projection.version:
        return True
    return not replay.in_place and not shadows.fits(shadow_of(projection))


def _split_alike(projection: ProjectionSubscription) -> bool:
    """Whether the live read model has as many partitions as the projection declares."""
    return len(positions(projection)) == projection.partitions


def _is_paused(projection: ProjectionSubscription) -> bool:
    return Checkpoint.objects.filter(subscription=projection.name, state=Checkpoint.State.PAUSED).exists()


def _skipped(projection: ProjectionSubscription) -> dict[str, str]:
    letters = Delivery.objects.filter(subscription=projection.name, state=Delivery.State.SKIPPED)
    return {str(position): reason for position, reason in letters.values_list("position", "reason")}


def _open_replay(projection: ProjectionSubscription) -> Replay | None:
    return Replay.objects.select_for_update().filter(projection=projection.name, state__in=Replay.OPEN).first()


def _take_up(replay: Replay, runner: UUID) -> None:
    """Be the one process that is at it. Raises Busy when another one still is, after as long as a dead one counts."""
    until = time.monotonic() + LEASE.total_seconds() + PATIENCE
    untended = Q(runner=None) | Q(seen_at=None) | Q(seen_at__lt=Now() - LEASE)
    while not Replay.objects.filter(untended, pk=replay.pk).update(runner=runner, seen_at=Now()):
        if time.monotonic() > until:
            raise Busy(f"Another process is replaying {replay.projection}. See `manage.py replay_projection --status`.")
        time.sleep(PATIENCE)


def _report(replay: Replay, runner: UUID, **progress: Any) -> None:
    """Tell that the process lives, and hear what others want. Raises Busy when it was taken to be dead."""
    if not Replay.objects.filter(pk=replay.pk, runner=runner).update(seen_at=Now(), **progress):
        raise Busy(f"Another process has taken up the replay of {replay.projection}.")
    replay.refresh_from_db()


def _set(projection: ProjectionSubscription, before: Replay.State, after: Replay.State, **columns: Any) -> Replay:
    if not Replay.objects.filter(projection=projection.name, state=before).update(state=after, **columns):
        raise NoReplay(f"There is no replay of {projection.name} that is {before.value}.")
    replay = Replay.objects.filter(projection=projection.name, state=after).latest("pk")
    if replay.by_workers and after == Replay.State.BUILDING:
        transaction.on_commit(partial(nudges.send, [nudge_for(projection)]))
    return replay


def _close(replay: Replay, state: Replay.State, *, error: str = "") -> None:
    """Let it have ended, and remove what it built unless that is in use now."""
    with transaction.atomic():
        if not replay.in_place and state in (Replay.State.CANCELLED, Replay.State.FAILED, Replay.State.VERIFIED):
            shadows.drop(shadow_of(projection_named(replay.projection)))
        replay.state, replay.error, replay.finished_at = state, error, timezone.now()
        replay.save(update_fields=["state", "error", "finished_at"])
