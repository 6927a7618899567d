"""Forgetting beside everything else that goes on: what failed, what is being replayed, what is at work this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event as Signal
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pytest_django import Settings

from eventing import context, replay
from eventing.advance import advance, retry_due
from eventing.contact import Contact
from eventing.forgetting import forget
from eventing.handlers import dispatch
from eventing.models import Delivery, Replay
from eventing.relay import relay_all
from eventing.rows import save
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from eventing.tests.conftest import InThreads, database_url
from eventing.tests.conftest import in_threads as in_threads
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import MarkOrderShipped, PlaceOrder
from orders.models import OrderSummary
from orders.projections import OrderSummaries
from orders.sagas import OrderFulfilment
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, pounds

pytestmark = pytest.mark.django_db(transaction=True)

EMAIL = "zq77@quux.example"
CONTACT = Contact(name="Zaphodina Quux", email=EMAIL, street="17 Xylophone Mews", city="Ely", country="GB")

COLUMNS = """
SELECT table_schema, table_name, column_name FROM information_schema.columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
"""


@pytest.fixture(autouse=True)
def an_order() -> None:
    for sku, price in ((HEART, "2.55"), (LANTERN, "3.39")):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=20))
    dispatch(PlaceOrder(order_id=ORDER, customer_id=CUSTOMER, lines=LINES, contact=CONTACT))


def places_of_the_email() -> set[str]:
    """Every table, in whatever schema, in which the e-mail address stands."""

    def search() -> Iterator[str]:
        with psycopg.connect(database_url()) as other:
            for schema, table, column in other.execute(COLUMNS).fetchall():
                count = SQL("SELECT 1 FROM {} WHERE {}::text LIKE %s LIMIT 1").format(
                    Identifier(schema, table), Identifier(column)
                )
                if other.execute(count, [f"%{EMAIL}%"]).fetchone():
                    yield f"{schema}.{table}"

    return set(search())


def forgets_the_customer() -> None:
    forget(CUSTOMER, reason="She asked for it", by="dpo")


def relays() -> None:
    while sum(relay_all()):
        pass


def goes_through(name: str) -> None:
    subscription = subscription_named(name)
    for partition in range(subscription.partitions):
        while advance(subscription, partition):
            pass


@pytest.fixture
def failing_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the order list fail with all that is in its rows, as PostgreSQL does; before that something may happen."""

    def fail(meanwhile: Callable[[], Any] = lambda: None) -> None:
        def failing(model: Any, rows: Any) -> None:
            if model is not OrderSummary:
                save(model, rows)
                return
            meanwhile()
            raise ValueError(f"Failing row contains {[row.contact_email for row in rows]}")

        monkeypatch.setattr("eventing.projections.save", failing)

    return fail


def test_a_letter_of_another_conversation_about_the_same_order_is_blanked(failing_rows: Callable[..., None]) -> None:
    settle()
    failing_rows()
    with context.acting(actor="clerk"):
        dispatch(MarkOrderShipped(order_id=ORDER))
    relays()
    goes_through("orders.OrderSummaries")
    assert "public.eventing_delivery" in places_of_the_email()

    forgets_the_customer()
    assert "public.eventing_delivery" not in places_of_the_email()
    assert Delivery.objects.exclude(error="").get().error == "ValueError: (forgotten)"


def test_what_fails_with_what_was_read_before_keeps_only_its_kind(
    in_threads: InThreads, failing_rows: Callable[..., None], settings: Settings
) -> None:
    settings.EVENTING = {**settings.EVENTING, "BATCH": 1}  # a batch would be tried again, and read as forgotten
    relays()
    failing_rows(meanwhile=lambda: in_threads(forgets_the_customer))
    goes_through("orders.OrderSummaries")

    assert "public.eventing_delivery" not in places_of_the_email()


def test_a_replay_that_is_paused_is_given_up() -> None:
    settle()
    started = replay.start(replay.projection_named("orders.OrderSummaries"))
    next(step for step in replay.run(started) if step.position)
    Replay.objects.update(state=Replay.State.PAUSED)
    assert "replay_orders_ordersummary.orders_ordersummary" in places_of_the_email()

    forgets_the_customer()
    settle()
    assert places_of_the_email() == set()
    started.refresh_from_db()
    assert started.state == Replay.State.CANCELLED


def test_the_error_of_a_failed_replay_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    settle()

    def fail(self: object, row: object, event: object, record: object) -> None:
        raise ValueError(f"I can't digest {event}")

    with monkeypatch.context() as broken:
        broken.setattr(OrderSummaries, "apply", fail)
        with pytest.raises(replay.Failed):
            replay.rebuild(replay.projection_named("orders.OrderSummaries"))
    assert "public.eventing_replay" in places_of_the_email()

    forgets_the_customer()
    settle()
    assert places_of_the_email() == set()


def test_who_forgets_and_who_retries_a_letter_dont_wait_in_a_circle(
    in_threads: InThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    react, retrying, forgotten = OrderFulfilment.react, Signal(), Signal()

    def fail(self: OrderFulfilment, event: Any) -> Any:
        raise ValueError("Not now")

    def slowly(self: OrderFulfilment, event: Any) -> Any:
        retrying.set()
        forgotten.wait(0.5)
        return react(self, event)

    relays()
    monkeypatch.setattr(OrderFulfilment, "react", fail)
    goes_through("orders.OrderFulfilment")
    letter = Delivery.objects.get(subscription="orders.OrderFulfilment")
    monkeypatch.setattr(OrderFulfilment, "react", slowly)

    def forgets() -> None:
        retrying.wait(10)
        forgets_the_customer()
        forgotten.set()

    in_threads(lambda: retry_due(subscription_named("orders.OrderFulfilment"), letter.partition), forgets)
    settle()
    assert places_of_the_email() == set()
    assert not Delivery.objects.filter(state__in=Delivery.OPEN).exists()
