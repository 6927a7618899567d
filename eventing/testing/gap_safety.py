"""A conformance suite: whoever follows a store gets every event that was committed, once, and in order.

An event store that many write to at once has to give its events one order, and whoever follows that order must never
pass over an event that was written earlier and committed later. Any store can be put under the suite: write an adapter
that is a `Store`, and let pytest collect a class that hands it out::

    class TestOurStore(GapSafety):
        @pytest.fixture
        def store(self) -> OurAdapter:
            return OurAdapter()

Most scenarios are fixed interleavings. Each writer has a thread of its own, and one that waits for another, as under a
store that locks, is left waiting while the scenario goes on: waiting is no fault, losing is. What is found raises one
of the exceptions below, all of them `Unsafe`.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import count, zip_longest
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One event, as far as the suite is concerned: its stream, and a value that grows within its stream."""

    stream: str
    value: int


class Writer(Protocol):
    """A session of its own that writes. All its methods are called from one thread."""

    def begin(self) -> None:
        """Begin a transaction."""

    def append(self, stream: str, value: int) -> None:
        """Append an event to the end of a stream, in the transaction. No other open transaction has this stream."""

    def commit(self) -> None:
        """Make everything since `begin` true."""

    def rollback(self) -> None:
        """Make nothing of it true."""


class Follower(Protocol):
    """Somebody who follows the one order of all events from its beginning."""

    def read(self) -> Sequence[Entry]:
        """The next events since the last call, a batch at most; none when there's nothing new yet."""


class Store(Protocol):
    """What the suite has to know of a store. It begins empty."""

    def writer(self) -> AbstractContextManager[Writer]:
        """A new session; entered, used and left in a thread of its own."""

    def follower(self, batch: int) -> AbstractContextManager[Follower]:
        """A new follower who reads so many events at a time."""

    def bystander(self, *, elsewhere: bool) -> AbstractContextManager[None]:
        """Somebody with an open transaction that has written something else, in the store's database, or
        ``elsewhere`` in another database of its server."""


MOST_SECONDS = 30  # that a session may take for what it was told, when nobody keeps it waiting


class Unsafe(AssertionError):
    """The store has broken its promise."""


class Missed(Unsafe):
    """Events that were committed never came."""


class Repeated(Unsafe):
    """Events came more than once."""


class Premature(Unsafe):
    """Events came that weren't committed."""


class Disordered(Unsafe):
    """Events of one stream came in another order than they were appended in."""


class Unsettled(Unsafe):
    """Who reads later gets another order than who read along."""


class Stalled(Unsafe):
    """Events were held up by a transaction that has nothing to do with them."""


class Ledger:
    """What the writers have done, to compare with what a follower is told."""

    def __init__(self) -> None:
        self.committed: set[Entry] = set()
        self._values: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))

    def entry(self, stream: str) -> Entry:
        """The next event of a stream."""
        return Entry(stream, next(self._values[stream]))


class Scribe:
    """A writer whose acts are noted."""

    def __init__(self, writer: Writer, ledger: Ledger) -> None:
        self._writer = writer
        self._ledger = ledger
        self._appended: list[Entry] = []

    def begin(self) -> None:
        """Begin a transaction."""
        self._appended = []
        self._writer.begin()

    def append(self, *streams: str) -> None:
        """Append an event to each of these streams."""
        for stream in streams:
            entry = self._ledger.entry(stream)
            self._appended.append(entry)
            self._writer.append(*entry)

    def commit(self) -> None:
        """Commit. It's noted first: from here on a follower may see it."""
        self._ledger.committed.update(self._appended)
        self._writer.commit()

    def rollback(self) -> None:
        """Roll back."""
        self._writer.rollback()


class Session:
    """A writer in a thread of its own, which is told what to do, and waited for, but not for ever."""

    def __init__(self, store: Store, ledger: Ledger, patience: float) -> None:
        self.streams: set[str] = set()
        self.is_open = False
        self._patience = patience
        self._thread = ThreadPoolExecutor(1)
        self._left = ExitStack()
        self._scribe = Scribe(self._thread.submit(self._left.enter_context, store.writer()).result(), ledger)
        self._told: list[Future[None]] = []

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for another session, as under a store that locks."""
        return not all(each.done() for each in self._told)

    def begin(self) -> None:
        """Begin a transaction."""
        self.is_open = True
        self._tell(self._scribe.begin)

    def append(self, *streams: str) -> None:
        """Append an event to each of these streams."""
        self.streams |= set(streams)
        self._tell(self._scribe.append, *streams)

    def commit(self) -> None:
        """Commit."""
        self._tell(self._scribe.commit)
        self.is_open, self.streams = False, set()

    def rollback(self) -> None:
        """Roll back."""
        self._tell(self._scribe.rollback)
        self.is_open, self.streams = False, set()

    def write(self, *streams: str) -> None:
        """Append to these streams in a transaction of its own."""
        self.begin()
        self.append(*streams)
        self.commit()

    def work(self, act: Callable[[Scribe], None]) -> None:
        """Do all this, while others go on."""
        self._told.append(self._thread.submit(act, self._scribe))

    def end(self) -> None:
        """Wait for it. Raises what it raised, and TimeoutError when it waits for ever."""
        for each in self._told:
            each.result(timeout=MOST_SECONDS)

    def leave(self) -> Future[None]:
        """Give up the session, and its thread, as soon as it's done what it was told."""
        left = self._thread.submit(self._left.close)
        self._thread.shutdown(wait=False)
        return left

    def _tell(self, act: Callable[..., None], *arguments: str) -> None:
        self._told.append(self._thread.submit(act, *arguments))
        wait(self._told, self._patience)


class Play:
    """One scenario: its sessions, and a follower who reads along."""

    def __init__(self, store: Store, *, batch: int, patience: float) -> None:
        self.sessions: list[Session] = []
        self.seen: list[Entry] = []
        self._store, self._batch, self._patience = store, batch, patience
        self._ledger = Ledger()
        self._left = ExitStack()
        self._follower = self._left.enter_context(store.follower(batch))

    def session(self) -> Session:
        """A new session."""
        session = Session(self._store, self._ledger, self._patience)
        self.sessions.append(session)
        return session

    def read(self) -> bool:
        """Let the follower read a batch. Returns whether there was anything."""
        return self._read(self._follower, self.seen)

    def catch_up(self) -> None:
        """Let the follower read until there's nothing new."""
        while self.read():
            pass

    def end(self) -> None:
        """Let all sessions end, and the follower read until it has seen everything, and a later one too."""
        for session in self.sessions:
            if session.is_open:
                session.rollback()
        for session in self.sessions:
            session.end()
        if missing := self._missing():
            raise Missed(f"{len(missing)} of {len(self._ledger.committed)} events never came: {_some(missing)}.")
        with self._store.follower(self._batch) as later:
            again: list[Entry] = []
            while self._read(later, again):
                pass
        if again != self.seen:
            place = next(at for at, (one, other) in enumerate(zip_longest(self.seen, again)) if one != other)
            raise Unsettled(
                f"Who reads later sees another order, from event {place + 1} on: {_some(again[place:])} "
                f"instead of {_some(self.seen[place:])}."
            )

    def expect_no_stall(self) -> None:
        """What was committed has to come, although somebody else's transaction is open."""
        if held_up := self._missing():
            raise Stalled(f"An unrelated transaction holds up {len(held_up)} events: {_some(held_up)}.")

    def leave(self) -> None:
        """Close everything. Nobody is to write any more once the next scenario begins, however slow the machine is; who
        waits for another is freed when that one leaves."""
        wait([session.leave() for session in self.sessions], timeout=MOST_SECONDS)
        self._left.close()

    def _missing(self) -> list[Entry]:
        """What doesn't come although there's time for it."""
        deadline = time.monotonic() + self._patience
        while True:
            self.catch_up()
            missing = sorted(self._ledger.committed - set(self.seen))
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.01)

    def _read(self, follower: Follower, seen: list[Entry]) -> bool:
        batch = follower.read()
        if len(batch) > self._batch:
            raise Unsafe(f"A follower of {self._batch} events at a time was given {len(batch)}.")
        for entry in batch:
            if entry in seen:
                raise Repeated(f"{entry} came again.")
            if entry not in self._ledger.committed:
                raise Premature(f"{entry} came, and isn't committed.")
            if before := [each for each in seen if each.stream == entry.stream and each.value > entry.value]:
                raise Disordered(f"{entry} came after {before[-1]}.")
            seen.append(entry)
        return bool(batch)


class GapSafety:
    """The scenarios. A class that inherits them gives the fixture ``store``, which is a `Store`."""

    patience = 2.0
    """Seconds that a session may wait for another, and that events may take to come to a follower."""
    seed = "gap safety"
    """Of the schedules that are left to chance: the same seed makes the same schedule."""

    @contextmanager
    def play(self, store: Store, *, batch: int = 100) -> Iterator[Play]:
        """A scenario, at whose end everybody has to have seen everything."""
        play = Play(store, batch=batch, patience=self.patience)
        try:
            yield play
            play.end()
        finally:
            play.leave()

    def test_who_begins_first_and_commits_last_is_not_missed(self, store: Store) -> None:
        """A cursor on an identity column is past the late event."""
        with self.play(store) as play:
            slow, quick = play.session(), play.session()
            slow.begin()
            slow.append("slow")
            quick.write("quick")
            play.catch_up()
            slow.commit()

    def test_who_commits_at_the_edge_of_a_batch_is_not_missed(self, store: Store) -> None:
        """The follower has read full batches, and stands between two."""
        with self.play(store, batch=2) as play:
            slow, quick = play.session(), play.session()
            for _ in range(3):
                quick.write("quick")
                slow.begin()
                slow.append("slow")
                quick.write("quick", "other")
                play.read()
                slow.commit()
                play.read()

    def test_a_transaction_larger_than_a_batch_comes_whole(self, store: Store) -> None:
        """Others commit while the follower is in the middle of it."""
        with self.play(store, batch=3) as play:
            large, small = play.session(), play.session()
            large.write(*["large", "larger"] * 5)
            while play.read():
                if len(play.seen) < 10:
                    small.write("small")

    def test_nothing_is_seen_before_its_commit(self, store: Store) -> None:
        """A transaction of several statements comes when it's over."""
        with self.play(store) as play:
            session = play.session()
            session.begin()
            for _ in range(3):
                session.append("one", "other")
                play.catch_up()
            session.commit()

    def test_transactions_of_several_statements_that_overlap_lose_nothing(self, store: Store) -> None:
        """Each begins before the other ends, again and again."""
        with self.play(store) as play:
            one, other = play.session(), play.session()
            one.begin()
            one.append("one")
            for _ in range(3):
                other.begin()
                other.append("other")
                play.catch_up()
                one.append("one")
                one.commit()
                play.catch_up()
                one.begin()
                one.append("one")
                other.append("other")
                other.commit()
                play.catch_up()
            one.commit()

    def test_what_is_rolled_back_never_comes_and_holds_nobody_up(self, store: Store) -> None:
        """Numbers that it took leave holes, and nobody may wait for them to be filled."""
        with self.play(store) as play:
            fickle, steady = play.session(), play.session()
            fickle.begin()
            fickle.append("fickle", "fickle")
            steady.write("steady")
            play.catch_up()
            fickle.rollback()
            steady.write("steady")
            play.catch_up()
            fickle.write("fickle")

    def test_a_long_transaction_of_somebody_else_holds_nobody_up(self, store: Store) -> None:
        """It has written, in the same database, and nothing of the store."""
        self._with_bystander(store, elsewhere=False)

    def test_a_long_transaction_in_another_database_holds_nobody_up(self, store: Store) -> None:
        """Servers number the transactions of all their databases together."""
        self._with_bystander(store, elsewhere=True)

    def test_a_stream_stays_in_order_when_the_transaction_of_its_later_event_began_first(self, store: Store) -> None:
        """An order by transactions turns it round."""
        with self.play(store) as play:
            first, second = play.session(), play.session()
            first.begin()
            first.append("other")
            second.write("shared")
            if not second.is_waiting:
                first.append("shared")
            first.commit()

    def test_who_reads_later_sees_the_order_that_others_saw(self, store: Store) -> None:
        """A read model that is replayed has to become what it was: even where the one who read along is content."""
        with self.play(store) as play:
            sessions = [play.session() for _ in range(3)]
            for session, stream in zip(sessions, "abc", strict=True):
                session.begin()
                session.append(stream)
            for session in reversed(sessions):
                session.commit()
                play.catch_up()

    def test_many_who_have_all_written_before_the_first_commits_lose_nothing(self, store: Store) -> None:
        """They meet at a barrier, and commit in the opposite order with the follower reading between."""
        with self.play(store, batch=3) as play:
            sessions = [play.session() for _ in range(6)]
            for number, session in enumerate(sessions):
                session.begin()
                session.append(*[f"stream {number}"] * (number + 1))
            for session in reversed(sessions):
                session.commit()
                play.read()

    def test_random_schedules_lose_nothing(self, store: Store) -> None:
        """Every step is drawn from the seed, and done before the next: the same every time."""
        choice = random.Random(self.seed)  # noqa: S311 - no secret
        with self.play(store, batch=3) as play:
            sessions = [play.session() for _ in range(5)]
            for _ in range(250):
                session = choice.choice(sessions)
                if session.is_waiting or choice.random() < 0.2:
                    play.read()
                elif not session.is_open:
                    session.begin()
                else:
                    self._go_on(session, sessions, choice)

    def test_writers_at_full_speed_lose_nothing(self, store: Store) -> None:
        """The one scenario whose interleaving is left to the machine."""
        with self.play(store, batch=20) as play:
            sessions = [play.session() for _ in range(4)]
            for number, session in enumerate(sessions):
                session.work(partial(self._write_busily, number))
            while any(session.is_waiting for session in sessions):
                play.read()

    def _with_bystander(self, store: Store, *, elsewhere: bool) -> None:
        with self.play(store) as play:
            session = play.session()
            with store.bystander(elsewhere=elsewhere):
                session.write("one", "other")
                session.write("one")
                play.expect_no_stall()

    def _go_on(self, session: Session, sessions: Sequence[Session], choice: random.Random) -> None:
        """The next step of an open transaction. Streams that another one holds are left alone."""
        held = {stream for each in sessions if each is not session for stream in each.streams}
        free = [stream for stream in "abcdefgh" if stream not in held]
        what = choice.random()
        if what < 0.6 and free:
            session.append(choice.choice(free))
        elif what < 0.9:
            session.commit()
        else:
            session.rollback()

    def _write_busily(self, number: int, scribe: Scribe) -> None:
        choice = random.Random(f"{self.seed} {number}")  # noqa: S311 - no secret
        for _ in range(60):
            scribe.begin()
            for _ in range(choice.randint(1, 3)):
                scribe.append(f"{choice.choice('abc')}{number}")
                time.sleep(choice.random() * 0.002)
            if choice.random() < 0.1:
                scribe.rollback()
            else:
                scribe.commit()


def _some(entries: Sequence[Entry]) -> str:
    shown = ", ".join(f"{stream} {value}" for stream, value in entries[:5])
    return f"{shown}, …" if len(entries) > 5 else shown or "nothing"
