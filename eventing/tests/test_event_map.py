from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from eventing.event_map import event_map


def test_the_map_tells_who_emits_and_consumes_each_event() -> None:
    (paid_in,) = [each for each in event_map().events if each.stored_name == "bank.money_paid_in"]
    assert paid_in.emitted_by == ["eventing.Account"]
    assert paid_in.consumed_by == ["eventing.Balances", "eventing.Entries", "eventing.Welcome"]


def test_the_map_tells_who_sends_and_handles_each_command() -> None:
    commands = {each.command: each for each in event_map().commands}
    assert commands["eventing.PayIn"].sent_by == ["eventing.Welcome"]
    assert commands["eventing.PayIn"].handled_by == ["eventing.pay_in"]
    assert commands["eventing.PayIn"].asked_of == ["eventing.Account"]
    assert commands["eventing.OpenAccount"].sent_by == []


def test_the_map_of_one_subscription_has_what_it_consumes_and_sends() -> None:
    found = event_map(only=["eventing.Welcome"])
    assert [each.event for each in found.events] == [
        "eventing.AccountClosed",
        "eventing.AccountOpened",
        "eventing.MoneyPaidIn",
    ]
    assert {name for each in found.events for name in each.consumed_by} == {"eventing.Welcome"}
    assert [each.command for each in found.commands] == ["eventing.CloseAccount", "eventing.PayIn"]


def test_a_subscription_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(CommandError, match=r"no subscription named 'eventing\.Welcom'") as raised:
        call_command("event_map", "--only", "eventing.Welcom")
    assert raised.value.returncode == 2


def test_the_map_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("event_map")
    output = capsys.readouterr().out
    assert "  eventing.MoneyPaidIn  (bank.money_paid_in, version 1)" in output
    assert "      sent by     people, through the API or a command" in output


def test_the_map_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("event_map", "--json")
    found = json.loads(capsys.readouterr().out)
    assert {"commands", "events"} == set(found)
    assert any(each["event"] == "eventing.AccountOpened" for each in found["events"])


def test_the_map_is_printed_as_a_flow_chart(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("event_map", "--mermaid")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "flowchart LR"
    assert '  eventing_Account(["eventing.Account"]) --> eventing_MoneyPaidIn>"eventing.MoneyPaidIn"]' in lines
    assert '  eventing_MoneyPaidIn>"eventing.MoneyPaidIn"] --> eventing_Welcome{{"eventing.Welcome"}}' in lines
    assert '  eventing_Welcome{{"eventing.Welcome"}} --> eventing_PayIn["eventing.PayIn"]' in lines
    assert '  eventing_PayIn["eventing.PayIn"] --> eventing_Account(["eventing.Account"])' in lines
