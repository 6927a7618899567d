"""One message to one address: signed as Standard Webhooks has it, to an address that was checked, in bounded time."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NamedTuple

import httpcore2
import httpx2
from django.conf import settings
from standardwebhooks import Webhook

from eventing.signature import storable
from eventing.webhooks import addresses
from eventing.webhooks.addresses import Refused

LONGEST_EXCERPT = 200  # characters of what a failing receiver says
LONGEST_WAIT = 24 * 3600  # seconds that a receiver can put us off
ASK_LATER = (429, 503)
AGENT = "Waybill-Webhooks/1"


class Answer(NamedTuple):
    """What came back: a status, or an error where there was none. ``excerpt`` is how the body begins, of failures."""

    status: int | None
    error: str
    milliseconds: int
    wait: float = 0
    excerpt: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has it now."""
        return self.status is not None and 200 <= self.status < 300

    def without_excerpt(self) -> Answer:
        """The same without what the receiver said."""
        return Answer(self.status, self.error, self.milliseconds, self.wait)


def send(url: str, *, id: str, body: bytes, secrets: Sequence[str]) -> Answer:
    """Send a message once. Never raises for what an address or a network can come up with."""
    started = time.monotonic()
    deadline = started + settings.EVENTING["WEBHOOK_SECONDS"]
    status, error, wait, excerpt = None, "", 0.0, ""
    try:
        parts = addresses.parsed(url)
        to = addresses.resolved(parts, seconds=deadline - time.monotonic())
        with (
            httpx2.Client(transport=PinnedTransport(to, deadline), trust_env=False, follow_redirects=False) as client,
            client.stream("POST", parts, content=body, headers=headers(id, body, secrets)) as response,
        ):
            status = response.status_code
            if not 200 <= status < 300:
                error = f"Answered {status}{', which is not followed' if response.is_redirect else ''}."
                wait = _wait(response) if status in ASK_LATER else 0
                excerpt = _excerpt(response)
    except Refused as refused:
        error = f"Not sent: {refused}"
    except httpx2.TimeoutException:
        error = f"No answer within {settings.EVENTING['WEBHOOK_SECONDS']:g} seconds."
    except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError, UnicodeError) as failed:
        error = storable(f"{type(failed).__name__}: {failed}")[:500]
    return Answer(status, error, int((time.monotonic() - started) * 1000), wait, excerpt)


def headers(id: str, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """What is sent with a body: its id, the time, and one signature for each secret."""
    now = datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": AGENT,
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(id, now, body.decode()) for secret in secrets),
    }


class PinnedTransport(httpx2.HTTPTransport):
    """Connects to addresses that were checked, whatever the host's name resolves to by now. The name stays in the
    Host header, and is what the certificate has to be for."""

    def __init__(self, to: Sequence[str], deadline: float) -> None:
        super().__init__(verify=_tls(), trust_env=False)
        self._pool = httpcore2.ConnectionPool(ssl_context=_tls(), network_backend=PinnedBackend(to, deadline))


class PinnedBackend(httpcore2.NetworkBackend):
    """Opens connections to the first of these addresses that takes one, until a deadline. Each has its share of the
    time that is left, so that one which swallows everything keeps nobody from the next."""

    def __init__(self, to: Sequence[str], deadline: float) -> None:
        self._to, self._deadline = to, deadline
        self._network = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        for number, address in enumerate(self._to[:-1]):
            try:
                return self._connect(address, port, share=len(self._to) - number)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(self._to[-1], port, share=1)

    def _connect(self, address: str, port: int, *, share: int) -> httpcore2.NetworkStream:
        timeout = _left(self._deadline, httpcore2.ConnectTimeout) / share
        return TimedStream(self._network.connect_tcp(address, port, timeout=timeout), self._deadline)


class TimedStream(httpcore2.NetworkStream):
    """A connection that ends at a deadline: a receiver that sends a byte now and then keeps nobody for ever."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(self._deadline, httpcore2.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, late: type[Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late
    return left


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading all the authorities takes longer than a message."""
    return httpx2.create_ssl_context(trust_env=False)


def _wait(response: httpx2.Response) -> float:
    """The seconds that a receiver asks us to wait, within reason; 0 where it doesn't say."""
    asked = response.headers.get("Retry-After", "")
    try:
        seconds = float(asked) if asked.isdigit() else _seconds_until(parsedate_to_datetime(asked))
    except (ValueError, OverflowError):
        return 0
    return min(max(seconds, 0), LONGEST_WAIT)


def _seconds_until(moment: datetime) -> float:
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _excerpt(response: httpx2.Response) -> str:
    """How the body begins; what comes later, or too slowly, isn't read."""
    begun = b""
    try:
        for chunk in response.iter_raw(LONGEST_EXCERPT):
            begun += chunk
            if len(begun) >= LONGEST_EXCERPT:
                break
    except (httpx2.HTTPError, OSError):
        pass
    return storable(begun[:LONGEST_EXCERPT].decode(errors="replace"))
