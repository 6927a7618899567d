from __future__ import annotations

from typing import Any

from eventing.domain import Command, CommandRejected, Resumed, TimedOut
from inventory.commands import ReleaseReservation, ReserveInventory
from inventory.sagas import OrderStock
from tests.builders import CANCELLED, ORDER, OUT_OF_STOCK, PAID, PLACED, RELEASED, RESERVED, WANTED

RESERVE = ReserveInventory(order_id=ORDER, lines=WANTED)
RELEASE = ReleaseReservation(order_id=ORDER)


def story(*events: Any) -> tuple[list[Command], str]:
    """What the last of these events makes the saga ask for, and its state then."""
    saga, commands = OrderStock(id=ORDER), list[Command]()
    for event in events:
        commands = list(saga.react(event))
    return commands, saga.state


def test_stock_is_held_article_by_article_once_the_order_is_paid_for() -> None:
    assert story(PLACED) == ([], "PAYMENT_PENDING")
    assert story(PLACED, PAID) == ([RESERVE], "INVENTORY_PENDING")
    assert story(PLACED, PAID, RESERVED) == ([], "COMPLETED")


def test_for_an_order_that_is_cancelled_before_it_is_paid_nothing_is_held() -> None:
    assert story(PLACED, CANCELLED, PAID) == ([], "COMPENSATED")


def test_what_is_held_is_let_go_of_when_the_order_is_cancelled() -> None:
    assert story(PLACED, PAID, RESERVED, CANCELLED) == ([RELEASE], "COMPENSATING")
    assert story(PLACED, PAID, CANCELLED) == ([RELEASE], "COMPENSATING")
    assert story(PLACED, PAID, CANCELLED, RESERVED) == ([], "COMPENSATING")
    assert story(PLACED, PAID, CANCELLED, RESERVED, RELEASED) == ([], "COMPENSATED")


def test_of_stock_that_is_missing_nothing_is_let_go_of() -> None:
    assert story(PLACED, PAID, OUT_OF_STOCK, CANCELLED) == ([], "COMPENSATED")


def test_a_release_that_is_refused_is_left_to_a_person() -> None:
    refused = CommandRejected(command=RELEASE, reason="No.")
    assert story(PLACED, PAID, RESERVED, CANCELLED, refused) == ([], "FAILED")


def test_a_person_can_have_it_ask_again_for_what_was_refused() -> None:
    refused = CommandRejected(command=RELEASE, reason="No.")
    assert story(PLACED, PAID, RESERVED, CANCELLED, refused, Resumed()) == ([RELEASE], "COMPENSATING")
    assert story(PLACED, PAID, RESERVED, CANCELLED, Resumed()) == ([], "COMPENSATING")


def test_it_has_a_deadline_and_one_more_for_letting_go() -> None:
    saga = OrderStock(id=ORDER)
    for event in (PLACED, PAID, RESERVED):
        list(saga.react(event))
    assert list(saga.reminders) == ["deadline"]
    saga.reminders = {}
    list(saga.react(CANCELLED))
    assert list(saga.reminders) == ["deadline"]


def test_when_its_time_is_up_it_leaves_what_is_to_be_done_to_others() -> None:
    late = TimedOut(about="deadline")
    assert story(PLACED, late) == ([], "PAYMENT_PENDING")
    assert story(PLACED, PAID, RESERVED, CANCELLED, late) == ([], "COMPENSATING")
