"""A server that speaks the part of Stripe's API that we use, as Stripe documents it, and refuses whatever isn't in the
contract: for one process, and with failures to order."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "stripe_contract.json").read_text())
"""What Stripe may be asked, and answers as Stripe gives them: https://docs.stripe.com/api, errors
https://docs.stripe.com/api/errors, keys https://docs.stripe.com/api/idempotent_requests."""

DECLINES = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
}
LEAST = 30  # pence
SILENCE = 10  # seconds
SEARCHED = re.compile(r"metadata\['waybill_key'\]:'([^']*)'")

Answer = tuple[int, dict[str, Any]]


class Request(NamedTuple):
    """What it was asked. What only asks for what there is has no key."""

    path: str
    form: dict[str, str]
    key: str


class StripeApi:
    """What it has been asked, what it has done, and how it is to fail next: by a status, ``hang up``, or ``silence``.
    It answers a key the same again, be it by a 500."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.failures: list[str] = []
        self.captured_as = "succeeded"
        self.refunded_as = "succeeded"
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.address = ""
        self.closing = threading.Event()
        self._tokens: set[str] = set()
        self._answers: dict[str, tuple[Request, Answer]] = {}

    @property
    def taken(self) -> dict[str, int]:
        """What was taken by each PaymentIntent that wasn't declined."""
        found = self.intents.values()
        return {each["id"]: each["amount_received"] for each in found if each["status"] != "requires_payment_method"}

    @property
    def given(self) -> dict[str, int]:
        """What was given back of each."""
        total: dict[str, int] = {}
        for each in self.refunds.values():
            total[each["payment_intent"]] = total.get(each["payment_intent"], 0) + each["amount"]
        return total

    def forget_keys(self) -> None:
        """As Stripe does when they are a day old."""
        self._answers.clear()

    def answer(self, method: str, request: Request, headers: Mapping[str, str]) -> Answer | None:
        """Status and body; None to hang up instead."""
        self.requests.append(request)
        failure = self.failures.pop(0) if self.failures else ""
        if failure in ("401", "403", "429", "503"):
            return int(failure), CONTRACT["errors"][failure]
        if failure == "unknown":
            return _error("unknown", param="capture_method")
        if refused := _refused(method, request, headers):
            return refused
        if method == "GET":
            given = self._found(request)
        elif request.key in self._answers:
            first, given = self._answers[request.key]
            if first != request:
                return _error("idempotency")
        else:
            given = self._do(request)
            if failure == "500":
                given = 500, CONTRACT["errors"]["500"]
            self._answers[request.key] = request, given
        if failure == "silence":
            self.closing.wait(SILENCE)
        return None if failure in ("hang up", "silence") else given

    def _do(self, request: Request) -> Answer:
        match request.path.strip("/").split("/"):
            case ["v1", "payment_intents"]:
                return self._create(request.form)
            case ["v1", "payment_intents", name, "capture"]:
                intent = self.intents[name]
                if intent["status"] != "requires_capture":
                    return _error("unexpected state")
                received = intent["amount"] if self.captured_as == "succeeded" else 0
                intent |= {"status": self.captured_as, "amount_received": received}
                return 200, dict(intent)
            case _:
                return self._refund(request.form)

    def _create(self, form: dict[str, str]) -> Answer:
        token = form.get("payment_method_data[card][token]", "")
        method = token or form.get("payment_method", "")
        if not method:
            return _error("missing")
        if method.endswith("_unknown"):
            return _error("404", param=next(name for name, each in form.items() if each == method))
        if method.endswith("_unusable"):
            return _error("unusable")
        if int(form["amount"]) < LEAST:
            return _error("amount too small")
        if token and token in self._tokens:
            return _error("token used")
        self._tokens.add(token)
        intent = {
            **CONTRACT["payment_intent"],
            "id": f"pi_{len(self.intents) + 1}",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "status": "requires_capture",
            "metadata": {"waybill_key": form["metadata[waybill_key]"]},
        }
        self.intents[intent["id"]] = intent
        if decline := DECLINES.get(method):
            status, body = _error("402", status=402, decline_code=decline)
            intent |= {"status": "requires_payment_method", "last_payment_error": body["error"]}
            return status, body
        return 200, dict(intent)

    def _refund(self, form: dict[str, str]) -> Answer:
        charged, amount = form["payment_intent"], int(form["amount"])
        if amount > self.taken.get(charged, 0) - self.given.get(charged, 0):
            return _error("400")
        refund = {
            **CONTRACT["refund"],
            "id": f"re_{len(self.refunds) + 1}",
            "amount": amount,
            "payment_intent": charged,
            "status": self.refunded_as,
            "metadata": {"waybill_key": form["metadata[waybill_key]"]},
        }
        self.refunds[refund["id"]] = refund
        return 200, dict(refund)

    def _found(self, request: Request) -> Answer:
        if request.path.endswith("/search"):
            query = SEARCHED.fullmatch(request.form["query"])
            key = query and query[1]
            found = [each for each in self.intents.values() if each["metadata"]["waybill_key"] == key]
            return 200, {**CONTRACT["search_result"], "data": found}
        of = request.form["payment_intent"]
        newest = [each for each in reversed(self.refunds.values()) if each["payment_intent"] == of]
        names, limit = [each["id"] for each in newest], int(request.form.get("limit", 10))
        first = names.index(request.form["starting_after"]) + 1 if "starting_after" in request.form else 0
        page, more = newest[first : first + limit], len(newest) > first + limit
        return 200, {**CONTRACT["list"], "data": page, "has_more": more}


def _refused(method: str, request: Request, headers: Mapping[str, str]) -> Answer | None:
    """Why Stripe won't even begin, if it won't."""
    call = re.sub("/pi_[0-9]+/", "/{id}/", f"{method} {request.path}")
    if (expected := CONTRACT["requests"].get(call)) is None:
        return _error("no such url", status=404)
    wanted = dict(CONTRACT["headers"])
    if headers.get("Authorization") != wanted.pop("Authorization"):
        return _error("401", status=401)
    if method == "GET":
        del wanted["Content-Type"]
    if any(headers.get(name) != value for name, value in wanted.items()) or (method == "POST") != bool(request.key):
        return _error("unknown")
    if missing := set(expected["required"]) - request.form.keys():
        return _error("missing", param=min(missing))
    if unknown := request.form.keys() - {*expected["required"], *expected["allowed"]}:
        return _error("unknown", param=min(unknown))
    return None


def _error(name: str, *, status: int = 400, **more: str) -> Answer:
    return status, {"error": {**CONTRACT["errors"][name]["error"], **more}}


@contextmanager
def stripe_api() -> Iterator[StripeApi]:
    """One that listens."""
    api = StripeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            asked = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = dict(parse_qsl(body or asked.query))
            request = Request(asked.path, form, self.headers.get("Idempotency-Key", ""))
            answer = api.answer(self.command, request, dict(self.headers))
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
        api.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
