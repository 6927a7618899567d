"""What a stream reads, when it wakes, how it writes, and what it may be asked for."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import AsyncClient
from pytest_django import Settings
from redis import Redis

from eventing import hints, live, nudges, seats
from eventing.hints import Ear
from eventing.live import Page, Source
from eventing.records import Record
from eventing.tests.bank.customers import everything_is_relayed, opens_account, pays_in, stream_of
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)

LONG = 20.0  # seconds after which a test has failed


class Anybody:
    """Who may listen as long as the source is there."""

    def __init__(self, source: Source) -> None:
        self.allowed: Source | None = source

    def source(self) -> Source | None:
        return self.allowed

    def shown(self, record: Record, *, sees_persons: bool) -> bytes:
        return str(record.version).encode()


def deposits(*amounts: int) -> UUID:
    """An account with as many events after its first, all relayed."""
    account = opens_account()
    pays_in(account, *amounts)
    everything_is_relayed()
    return account


def read_all(read: Callable[[int], Page], after: int = 0) -> list[int]:
    """The positions of everything that is read, page by page."""
    page = read(after)
    found = [record.position for record in page.records]
    while page.more:
        page = read(page.position)
        found += [record.position for record in page.records]
    return found


def followed(source: Source, after: int = 0) -> tuple[Anybody, AsyncGenerator[bytes, None]]:
    seat = seats.take(seats.streams(), "somebody")
    assert seat is not None
    anybody = Anybody(source)
    return anybody, live.follow(anybody, source, seat, after)


async def next_event(frames: AsyncGenerator[bytes, None]) -> bytes:
    """The next frame that has an event."""
    async with asyncio.timeout(LONG):
        async for frame in frames:
            if frame.startswith(b"id: "):
                return frame
    raise AssertionError("The stream ended.")


def test_an_event_is_its_position_its_name_and_one_line_of_json() -> None:
    deposits(5)
    (record,) = live.read_log(None, 1).records
    assert isinstance(record, Record)

    assert live.frame(record, b'{"amount":5}') == b'id: 2\nevent: bank.money_paid_in\ndata: {"amount":5}\n\n'


def test_a_heartbeat_is_no_event_and_says_how_far_the_stream_has_come() -> None:
    assert live.heartbeat(7) == b": \nid: 7\n\n"


def test_who_is_cut_off_before_the_first_event_knows_where_to_go_on() -> None:
    deposits(1)

    async def listen() -> bytes:
        here = await sync_to_async(live.head)()
        _, frames = followed(Source(partial(live.read_log, None), here, sees_persons=False), here)
        return await anext(frames)

    assert asyncio.run(listen()) == b"retry: 1000\nid: 2\n\n"


def test_a_stream_is_read_in_order_from_after_a_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BATCH", 2)
    ada, _ = deposits(1, 2, 3), deposits(4)
    pays_in(ada, 5)
    everything_is_relayed()

    assert read_all(partial(live.read_stream, stream_of(ada))) == [1, 2, 3, 4, 7]
    assert read_all(partial(live.read_stream, stream_of(ada)), after=3) == [4, 7]


@pytest.mark.parametrize("types", [None, ["bank.account_opened"], ["bank.account_opened", "bank.money_paid_in"]])
def test_the_log_is_read_in_windows_and_nothing_falls_between_two(
    types: Sequence[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WINDOW", 3)
    monkeypatch.setattr(live, "BATCH", 2)
    for _ in range(3):
        deposits(1, 2, 3)

    wanted = [1, 5, 9] if types == ["bank.account_opened"] else list(range(1, 13))
    assert read_all(partial(live.read_log, types)) == wanted
    assert read_all(partial(live.read_log, types), after=4) == [position for position in wanted if position > 4]


def test_a_hint_wakes_a_stream_long_before_it_looks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL", 10 * LONG)

    async def listen() -> None:
        _, frames = followed(Source(partial(live.read_log, None), 0, sees_persons=False))
        waiting = asyncio.create_task(next_event(frames))
        while not waiting.done():
            await sync_to_async(deposits)()
            await asyncio.wait([waiting], timeout=0.1)
        assert waiting.result().startswith(b"id: 1\n")

    asyncio.run(listen())


def test_a_stream_looks_for_itself_while_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(live, "POLL", 0.05)
    monkeypatch.setattr(nudges, "redis", lambda: Redis.from_url(settings.REDIS_URL))

    async def listen() -> None:
        _, frames = followed(Source(partial(live.read_log, None), 0, sees_persons=False))
        waiting = asyncio.create_task(next_event(frames))
        await sync_to_async(deposits)()
        assert (await waiting).startswith(b"id: 1\n")

    with caplog.at_level(logging.WARNING):
        asyncio.run(listen())
    assert "open streams look for themselves" in caplog.text
    assert "open streams aren't counted" in caplog.text


def test_a_stream_that_is_cut_off_while_a_hint_comes_ends() -> None:
    async def listen(ears: list[Ear]) -> None:
        ears.append(Ear())
        await ears[0].wait(LONG)

    async def cut_off() -> None:
        ears: list[Ear] = []
        listening = asyncio.create_task(listen(ears))
        await asyncio.sleep(0)  # and it listens
        ears[0].hear()
        ears[0].cut_off()
        with pytest.raises(asyncio.CancelledError):
            await listening

    asyncio.run(cut_off())


def test_who_may_not_listen_any_more_hears_no_more(settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "STREAM_HEARTBEAT_SECONDS": 0.1}

    async def listen() -> list[bytes]:
        anybody, frames = followed(Source(partial(live.read_log, None), 0, sees_persons=False))
        anybody.allowed = None
        async with asyncio.timeout(LONG):
            return [frame async for frame in frames]

    assert asyncio.run(listen()) == [live.beginning(0)]


@pytest.mark.parametrize("lost", ["the session", "the permission"])
def test_a_stream_by_cookie_ends_at_the_next_heartbeat_after_the_right_to_listen_is_lost(
    settings: Settings, lost: str
) -> None:
    settings.EVENTING = {**settings.EVENTING, "STREAM_HEARTBEAT_SECONDS": 0.1}
    user = User.objects.create_user("watcher")
    user.user_permissions.set(Permission.objects.filter(codename="view_storedevent"))
    browser = AsyncClient()
    browser.force_login(user)

    def lose() -> None:
        if lost == "the session":
            Session.objects.all().delete()
        else:
            user.user_permissions.clear()

    async def listen() -> int:
        answer: Any = await browser.get("/api/v1/stream", headers={"Accept": "text/event-stream"})
        assert answer.status_code == 200
        heartbeats = 0
        async with asyncio.timeout(LONG):
            async for frame in answer.streaming_content:
                heartbeats += frame.startswith(b": ")
                if heartbeats == 2:
                    await sync_to_async(lose)()
        return heartbeats

    assert asyncio.run(listen()) == 2


async def is_cut_off_from_one_who_reads_no_more(meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Whether whoever serves a stream, and can't get rid of its first frame, is cut off."""
    _, frames = followed(Source(partial(live.read_log, None), 0, sees_persons=False))
    begun = asyncio.Event()

    async def serve() -> None:
        async for _ in frames:
            begun.set()
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await begun.wait()
    meanwhile()
    await asyncio.wait([serving], timeout=LONG)
    await frames.aclose()
    return serving.cancelled()


def test_a_stream_whose_client_reads_no_more_is_cut_off_a_while_after_the_end_of_its_life(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EVENTING = {**settings.EVENTING, "STREAM_SECONDS": 0.1}
    monkeypatch.setattr(live, "OVERTIME", 0.1)

    assert asyncio.run(is_cut_off_from_one_who_reads_no_more())


def test_a_stream_whose_client_reads_no_more_is_cut_off_soon_after_the_server_is_told_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "listener", hints.Listener())
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        assert asyncio.run(is_cut_off_from_one_who_reads_no_more(lambda: os.kill(os.getpid(), signal.SIGTERM)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]  # the server hears of it too


def of_a_newer_program(position: int) -> None:
    """Have the log hold an event there whose type this program doesn't know."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # or the log would refuse
        cursor.execute(
            """WITH named AS (
                UPDATE eventing_log SET type = 'bank.interest_paid' WHERE position = %s RETURNING event_id, type
            ) UPDATE eventing_event SET type = named.type FROM named WHERE id = event_id""",
            [position],
        )
        cursor.execute("SET session_replication_role = origin")


@pytest.mark.parametrize("of", ["the log", "a stream"])
def test_an_event_that_cant_be_read_is_passed_over_and_said_to_be_there(
    of: str, caplog: pytest.LogCaptureFixture
) -> None:
    account = deposits(1, 2, 3, 4)
    for position in (2, 4):
        of_a_newer_program(position)
    read = partial(live.read_stream, stream_of(account)) if of == "a stream" else partial(live.read_log, None)

    async def listen() -> list[bytes]:
        _, frames = followed(Source(read, 0, sees_persons=False))
        return (await next_event(frames)).split(b"\n\n")[:-1]

    with caplog.at_level(logging.ERROR):
        frames = asyncio.run(listen())
    assert [frame.split(b"\n")[0] for frame in frames] == [f"id: {position}".encode() for position in range(1, 6)]
    _, event, data = frames[1].decode().split("\n")
    assert event == "event: bank.interest_paid"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "bank.interest_paid",
        "position": 2,
        "data": None,
        "error": "This event can't be read here.",
    }
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "A stream passes over the event at 2, a bank.interest_paid"
    ]


def test_seats_are_taken_given_back_and_forgotten(settings: Settings) -> None:
    settings.EVENTING = {**settings.EVENTING, "STREAMS": 1, "STREAM_HEARTBEAT_SECONDS": 5.0}
    first = seats.take(seats.streams(), "ann")
    assert first is not None
    assert seats.take(seats.streams(), "ann") is None
    assert seats.take(seats.streams(), "ben") is not None
    seats.leave(first)

    settings.EVENTING = {**settings.EVENTING, "STREAM_HEARTBEAT_SECONDS": 0.0}
    killed = seats.take(seats.streams(), "ann")
    assert killed is not None
    assert seats.take(seats.streams(), "ann") is not None


@pytest.fixture
def watcher() -> ApiClient:
    user = User.objects.create_user("watcher")
    user.user_permissions.set(Permission.objects.filter(codename="view_storedevent"))
    client = ApiClient(raise_request_exception=False)
    client.force_authenticate(User.objects.get(pk=user.pk))
    return client


@pytest.mark.parametrize(
    ("query", "headers", "named"),
    [
        ("?types=bank.account_opened,bank.robbed", {}, ("types", "bank.robbed")),
        ("?types=", {}, ("types", "blank")),
        ("?type=bank.account_opened", {}, ("type", "isn't known here")),
        ("?after=1&after=2", {}, ("after", "once")),
        ("?after=x", {}, ("after", "not a position")),
        ("?after=-1", {}, ("after", "not a position")),
        ("?after=1_0", {}, ("after", "not a position")),
        ("?after=99", {}, ("after", "hasn't come that far")),
        ("", {"Last-Event-ID": "x"}, ("Last-Event-ID", "not a position")),
        ("", {"Last-Event-ID": "-1"}, ("Last-Event-ID", "not a position")),
        ("", {"Last-Event-ID": "1.0"}, ("Last-Event-ID", "not a position")),
        ("", {"Last-Event-ID": "9" * 5_000}, ("Last-Event-ID", "not a position")),
        ("", {"Last-Event-ID": "99"}, ("Last-Event-ID", "hasn't come that far: its last position is 1")),
    ],
)
def test_what_a_stream_can_not_be_asked_for_is_named(
    watcher: ApiClient, query: str, headers: dict[str, str], named: tuple[str, str]
) -> None:
    deposits()
    answer = watcher.get(f"/api/v1/stream{query}", headers={"Accept": "text/event-stream", **headers})

    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    (error,) = json.loads(answer.content)["errors"]
    assert error["header" if headers else "parameter"] == named[0]
    assert named[1] in error["detail"]


def test_a_server_without_streams_says_so(watcher: ApiClient) -> None:
    answer: Any = watcher.get("/api/v1/stream", headers={"Accept": "text/event-stream"})

    assert (answer.status_code, answer["Content-Type"]) == (501, "application/problem+json")
    assert json.loads(answer.content)["code"] == "not-live"


def test_a_stream_is_not_to_be_had_as_json(watcher: ApiClient) -> None:
    answer: Any = watcher.get("/api/v1/stream", headers={"Accept": "application/json"})

    assert (answer.status_code, json.loads(answer.content)["code"]) == (406, "not-acceptable")
