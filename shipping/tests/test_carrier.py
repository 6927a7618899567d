from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from pytest_django import Settings

from shipping.carrier import CarrierRefused, OutcomeUnknown
from shipping.carrier.simulated import SimulatedCarrier, check_digit, tracking_number_of
from shipping.models import Consignment


def book(key: str = "key") -> str:
    return SimulatedCarrier().book(None, idempotency_key=key)


@pytest.mark.parametrize(("digits", "check"), [("629104150021", 3), ("00000000000000000", 0), ("400638133393", 1)])
def test_the_check_digit_is_the_one_that_gs1_defines(digits: str, check: int) -> None:
    assert check_digit(digits) == check


def test_a_tracking_number_follows_from_its_key() -> None:
    number = tracking_number_of("key")
    assert number == tracking_number_of("key") != tracking_number_of("another")
    assert len(number) == 20
    assert int(number[-1]) == check_digit(number[2:-1])


@pytest.mark.django_db
def test_the_same_key_is_booked_once() -> None:
    assert book() == book() != book("another")
    assert Consignment.objects.get(key="key").asks == 2


@pytest.mark.django_db
def test_a_booking_whose_answer_is_lost_was_made_once_and_says_so_when_asked_again(settings: Settings) -> None:
    settings.SIMULATED_CARRIER_TIMEOUTS = 1
    with pytest.raises(OutcomeUnknown):
        book()
    assert Consignment.objects.get().tracking_number == tracking_number_of("key")
    assert book() == tracking_number_of("key")


@pytest.mark.django_db
def test_of_some_bookings_the_answer_is_lost(settings: Settings) -> None:
    settings.SIMULATED_CARRIER_TIMEOUTS = 0.25
    lost = 0
    for number in range(100):
        try:
            book(f"key {number}")
        except OutcomeUnknown:
            lost += 1
    assert 10 < lost < 40


@pytest.mark.django_db
def test_the_carrier_takes_its_time(settings: Settings) -> None:
    settings.SIMULATED_LATENCY = 0.1
    begun = time.monotonic()
    SimulatedCarrier().void(book())
    assert time.monotonic() - begun >= 0.2


def test_a_scan_that_changes_nothing_is_of_no_interest() -> None:
    told = {"tracking_number": "WB1", "scan": "out_for_delivery"}
    assert SimulatedCarrier().read(json.dumps(told).encode()) is None


@pytest.mark.django_db
def test_a_consignment_is_given_up_once() -> None:
    number = book()
    assert Consignment.objects.get().voided_at is None
    SimulatedCarrier().void(number)
    voided_at = Consignment.objects.get().voided_at
    SimulatedCarrier().void(number)
    assert Consignment.objects.get().voided_at == voided_at is not None


@pytest.mark.django_db
def test_there_has_to_be_a_consignment_to_give_up() -> None:
    with pytest.raises(CarrierRefused, match="There's no consignment WB1"):
        SimulatedCarrier().void("WB1")


@pytest.mark.django_db(transaction=True)
def test_the_same_key_from_many_at_once_is_one_consignment() -> None:
    keys, together = [f"key {number}" for number in range(50)], Barrier(8)

    def at_once(key: str) -> str:
        together.wait(timeout=30)
        return book(key)

    def book_all(_: int) -> list[str]:
        try:
            return [at_once(key) for key in keys]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(book_all, range(8)))
    assert answers == [[tracking_number_of(key) for key in keys]] * 8
    assert list(Consignment.objects.values_list("asks", flat=True)) == [8] * 50
