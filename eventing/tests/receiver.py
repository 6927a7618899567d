"""Whoever listens for webhooks: a real server, which notes what it's sent and answers what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook


class Message(NamedTuple):
    """What was received."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> Any:
        return self.said["data"]["event"]

    def verified(self, secret: str) -> Any:
        """What it says, as the package of those who receive has it. Raises WebhookVerificationError."""
        return Webhook(secret).verify(self.body, self.headers)


class Reply(NamedTuple):
    """What a receiver answers."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Receiver:
    """An address, what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.answer: Callable[[Message], Reply] = lambda message: Reply()
        self.port = 0
        self.scheme, self.host = "http", "127.0.0.1"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hooks?of=waybill"

    @property
    def amounts(self) -> list[int]:
        """Of the payments that it heard of, in order."""
        return [message.event["amount"] for message in self.heard if "amount" in message.event]


@contextmanager
def receiving(prepare: Callable[[ThreadingHTTPServer], None] = lambda server: None) -> Iterator[Receiver]:
    """A receiver, as long as the block lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = Message({name.lower(): value for name, value in self.headers.items()}, body)
            receiver.heard.append(message)
            reply = receiver.answer(message)
            try:
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)
            except OSError:
                pass  # whoever asked doesn't wait any more

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    prepare(server)
    receiver.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield receiver
    server.shutdown()
    server.server_close()
