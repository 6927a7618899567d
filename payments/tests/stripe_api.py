"""A server that speaks the part of Stripe's API that we use, as Stripe documents it: for one process, and with failures
to order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "stripe_contract.json").read_text())
"""Answers as Stripe gives them: https://docs.stripe.com/api, errors https://docs.stripe.com/api/errors."""

DECLINES = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
}


class StripeApi:
    """What it has been asked, what it has done, and how it is to fail next."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.failures: list[str] = []
        self.taken: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.address = ""
        self._answers: dict[str, tuple[str, dict[str, str], int, Any]] = {}

    def answer(self, path: str, form: dict[str, str], key: str) -> tuple[int, Any] | None:
        """Status and body; None to hang up instead."""
        self.requests.append((path, form, key))
        failure = self.failures.pop(0) if self.failures else ""
        if failure in ("500", "401", "429"):
            return int(failure), CONTRACT["errors"][failure]
        if key in self._answers:
            asked, with_form, status, body = self._answers[key]
            if (asked, with_form) != (path, form):
                return 400, CONTRACT["errors"]["idempotency"]
        else:
            status, body = self._do(path, form)
            self._answers[key] = (path, form, status, body)
        return None if failure == "hang up" else (status, body)

    def _do(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        match path.strip("/").split("/"):
            case ["v1", "payment_intents"]:
                method = form.get("payment_method") or form["payment_method_data[card][token]"]
                if method.endswith("_unknown"):
                    error = CONTRACT["errors"]["404"]["error"]
                    return 400, {
                        "error": {**error, "param": next(name for name, each in form.items() if each == method)}
                    }
                if decline := DECLINES.get(method):
                    error = CONTRACT["errors"]["402"]["error"]
                    return 402, {"error": {**error, "decline_code": decline}}
                name = f"pi_{len(self.taken) + 1}"
                self.taken[name] = 0
                return 200, self._intent(name, "requires_capture", form)
            case ["v1", "payment_intents", name, "capture"]:
                created = next(each for _, each, _, body in self._answers.values() if body.get("id") == name)
                self.taken[name] = int(created["amount"])
                return 200, self._intent(name, "succeeded", created)
            case ["v1", "refunds"]:
                charged, amount = form["payment_intent"], int(form["amount"])
                if amount > self.taken.get(charged, 0) - self.given.get(charged, 0):
                    return 400, CONTRACT["errors"]["400"]
                self.given[charged] = self.given.get(charged, 0) + amount
                changed = {"id": f"re_{len(self._answers)}", "amount": amount, "payment_intent": charged}
                return 200, {**CONTRACT["refund"], **changed}
            case _:
                return 404, CONTRACT["errors"]["400"]

    def _intent(self, name: str, status: str, form: dict[str, str]) -> dict[str, Any]:
        changed = {"id": name, "status": status, "amount": int(form["amount"]), "currency": form["currency"]}
        return {**CONTRACT["payment_intent"], **changed}


@contextmanager
def stripe_api() -> Iterator[StripeApi]:
    """One that listens."""
    api = StripeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = api.answer(self.path, dict(parse_qsl(body)), self.headers["Idempotency-Key"])
            if answer is None:
                self.connection.close()
                return
            payload = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
