"""What is personal in events is sealed where it's stored, opened where it's read, and gone once its key is."""

from __future__ import annotations

import os
import time
from threading import Event as Flag
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from eventing import checks, person_keys, personal, store, upcasting
from eventing.domain import Event, Personal, Saga, Value
from eventing.forgetting import UnknownPerson, forget
from eventing.models import PersonKey, StoredEvent
from eventing.person_keys import Forgotten, UnknownWrappingKey
from eventing.personal import FORGOTTEN, Unsealable, opened, seal
from eventing.records import Stored, decode
from eventing.tests.bank.aggregates import Account
from eventing.tests.bank.customers import opens_account, stream_of
from eventing.tests.bank.events import OwnerMoved
from eventing.tests.conftest import InThreads
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

HOME = "17 Thistledown Mews"


def moves(account: UUID, address: str = HOME) -> None:
    stream = stream_of(account)
    store.append(stream, [OwnerMoved(account_id=account, address=address)], expected=store.version(stream))


def stored(account: UUID) -> StoredEvent:
    return StoredEvent.objects.get(stream_id=str(account), type="bank.owner_moved")


@pytest.fixture
def keys(settings: Any) -> dict[str, bytes]:
    """The keys of the environment, which the test may change."""
    found = dict(settings.EVENTING["PERSON_KEYS"])
    settings.EVENTING = {**settings.EVENTING, "PERSON_KEYS": found}
    return found


def test_a_personal_field_is_sealed_and_read_back() -> None:
    account = opens_account()
    moves(account)
    assert HOME not in str(stored(account).data)
    assert stored(account).metadata == {"persons": [str(account)]}
    assert store.load(Account, account).address == HOME
    (*_, moved) = store.read(stream_of(account))
    assert moved.event == OwnerMoved(account_id=account, address=HOME)


def test_the_same_text_is_sealed_differently_each_time() -> None:
    first, second = seal([OwnerMoved(account_id=uuid4(), address=HOME)] * 2)
    assert first.data != second.data
    assert len({person for each in (first, second) for person in each.persons}) == 1


def test_who_is_forgotten_reads_as_forgotten_and_the_rest_stays() -> None:
    account, other = opens_account("Ada"), opens_account("Bob")
    moves(account)
    moves(other, "Elsewhere")
    forget(account, reason="Asked for it.", by="clerk")
    assert (store.load(Account, account).address, store.load(Account, account).owner) == (FORGOTTEN, "Ada")
    assert store.load(Account, other).address == "Elsewhere"


def test_of_who_is_unknown_nothing_can_be_forgotten() -> None:
    with pytest.raises(UnknownPerson, match="no event tells of such a person"):
        forget(uuid4(), reason="Asked for it.", by="clerk")


def test_events_without_personal_fields_ask_for_no_key(statements: list[str]) -> None:
    account = opens_account()
    store.load(Account, account)
    assert not any("eventing_person_key" in each for each in statements)
    assert StoredEvent.objects.get(stream_id=str(account)).metadata == {}


def test_a_batch_asks_for_its_keys_once(statements: list[str]) -> None:
    events = [OwnerMoved(account_id=uuid4(), address=str(number)) for number in range(20)]
    with transaction.atomic():
        texts = [msgspec.json.encode(each.data).decode() for each in seal(events)]
    statements.clear()
    assert [msgspec.json.decode(text)["address"] for text in opened(texts)] == [str(number) for number in range(20)]
    assert len([each for each in statements if "eventing_person_key" in each]) == 1


def test_what_was_sealed_of_one_person_or_field_cant_be_passed_off_as_anothers() -> None:
    ada, bob = uuid4(), uuid4()
    with transaction.atomic():
        seal([OwnerMoved(account_id=bob, address="x")])
        (sealed,) = seal([OwnerMoved(account_id=ada, address=HOME)])
    mark = sealed.data["address"]["$personal"]
    for forged in (
        {"address": {"$personal": {**mark, "of": str(bob)}}},
        {"another": {"$personal": mark}},
        {"address": {"$personal": {**mark, "sealed": mark["sealed"][:-4] + "AAAA"}}},
    ):
        with pytest.raises(Unsealable):
            opened([msgspec.json.encode(forged).decode()])


def test_an_old_version_is_opened_before_it_is_upcast(monkeypatch: pytest.MonkeyPatch) -> None:
    account = uuid4()
    with transaction.atomic():
        (sealed,) = seal([OwnerMoved(account_id=account, address=HOME)])
    seen: list[Any] = []

    def step(payload: dict[str, Any]) -> dict[str, Any]:
        seen.append(payload["address"])
        return payload

    monkeypatch.setattr(upcasting, "_upcasters", {(OwnerMoved, 0): [step]})
    text = msgspec.json.encode(sealed.data).decode()
    assert decode(Stored("bank.owner_moved", 0, text)) == OwnerMoved(account_id=account, address=HOME)
    assert seen == [HOME]


class Passenger(Value):
    """Somebody on the way."""

    seat: str
    name: Annotated[str | None, Personal("seat")] = None


class Journey(Value):
    """Has persons inside, one within a list, and one of its own."""

    passengers: tuple[Passenger, ...]
    by_role: dict[str, Passenger]
    note: Annotated[str, Personal("driver", "fallback")] = ""
    driver: str | None = None
    fallback: str | None = "F"


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just('{"$personal": {"of": "x"}}')
passengers = st.builds(Passenger, seat=st.sampled_from("ABC"), name=st.none() | names)
journeys = st.builds(
    Journey,
    passengers=st.lists(passengers, max_size=3).map(tuple),
    by_role=st.dictionaries(st.sampled_from(["cook", "$personal"]), passengers),
    note=names,
    driver=st.none() | st.sampled_from("AD"),
)


class Sealing(TestCase):
    @given(st.lists(journeys, max_size=4))
    @settings(max_examples=80, deadline=None)
    def test_whatever_is_sealed_opens_as_it_was(self, values: list[Journey]) -> None:
        texts = [msgspec.json.encode(each.data).decode() for each in seal(values)]
        assert [msgspec.json.decode(text, type=Journey) for text in opened(texts)] == values

    def test_the_first_field_that_names_somebody_is_the_person(self) -> None:
        empty: dict[str, Any] = {"passengers": (), "by_role": {}, "note": "hello"}
        sealed = seal([Journey(**empty, driver="A"), Journey(**empty), Journey(**{**empty, "note": ""})])
        assert [each.persons for each in sealed] == [["A"], ["F"], []]

    def test_what_is_personal_and_of_nobody_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Journey tells something of nobody: no person in driver or fallback"):
            seal([Journey(passengers=(), by_role={}, note="hello", fallback=None)])


def test_declarations_that_cant_work_are_found() -> None:
    class Wrong(Event, name="bank.wrong"):
        age: Annotated[int, Personal("account")]
        name: Annotated[str, Personal()]

    found = " ".join(personal.complaints(Wrong))
    assert "'age' is of the person in 'account', which it doesn't have" in found
    assert "'age' has nothing to read as once its person is forgotten" in found
    assert "'name' doesn't say in which field its person is" in found


def test_the_memory_of_a_saga_is_sealed_and_can_be_saved_after_its_person_was_forgotten() -> None:
    class Visit(Saga):
        address: Annotated[str, Personal("id")] = ""

    visit = Visit(id=uuid4(), address=HOME)
    with transaction.atomic():
        (sealed,) = seal([visit])
    text = msgspec.json.encode(sealed.data).decode()
    assert HOME not in text
    forget(visit.id, reason="Asked for it.", by="clerk")
    remembered = msgspec.json.decode(opened([text])[0], type=Visit)
    assert remembered.address == FORGOTTEN
    (again,) = seal([remembered])
    assert (again.data["address"], again.persons) == (FORGOTTEN, [])


def test_who_is_being_forgotten_waits_for_what_is_being_recorded(in_threads: InThreads) -> None:
    account = opens_account()
    moves(account, "Before")
    recorded, may_commit = Flag(), Flag()

    def record() -> None:
        with transaction.atomic():
            moves(account, "During")
            recorded.set()
            assert may_commit.wait(20)

    def forget_them() -> None:
        assert recorded.wait(20)
        forget(account, reason="Asked for it.", by="clerk")

    def let_them_commit() -> None:
        assert recorded.wait(20)
        assert eventually(somebody_waits, seconds=60)
        may_commit.set()

    in_threads(record, forget_them, let_them_commit)
    assert store.version(stream_of(account)) == 3
    assert store.load(Account, account).address == FORGOTTEN


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_what_comes_after_the_forgetting_is_refused(in_threads: InThreads) -> None:
    account = opens_account()
    moves(account)
    begun, refused = Flag(), []

    def forget_them() -> None:
        with transaction.atomic():
            forget(account, reason="Asked for it.", by="clerk")
            begun.set()
            assert eventually(somebody_waits, seconds=60)

    def record() -> None:
        assert begun.wait(20)
        try:
            moves(account, "Too late")
        except Forgotten as error:
            refused.append(str(error))

    in_threads(forget_them, record)
    assert refused
    assert store.version(stream_of(account)) == 2


def test_writers_of_the_same_new_persons_agree_on_their_keys(in_threads: InThreads) -> None:
    persons = [uuid4() for _ in range(8)]

    def write(order: list[UUID]) -> None:
        for person in order:
            stream = stream_of(uuid4())
            store.append(stream, [OwnerMoved(account_id=person, address=HOME)], expected=0)

    in_threads(*[lambda order=persons[n:] + persons[:n]: write(order) for n in range(4)])
    assert PersonKey.objects.count() == 8
    for event in StoredEvent.objects.all():
        text = msgspec.json.encode(event.data).decode()
        assert msgspec.json.decode(opened([text])[0])["address"] == HOME


def test_keys_are_encrypted_anew_while_others_write(keys: dict[str, bytes], in_threads: InThreads) -> None:
    accounts = [opens_account() for _ in range(6)]
    for account in accounts[:5]:
        moves(account)
    forget(accounts[4], reason="Asked for it.", by="clerk")
    old = next(iter(keys))
    before = {**keys}
    keys.clear()
    keys.update({"second": os.urandom(32), **before})
    rotated: list[int] = []

    def rotate() -> None:
        while some := person_keys.rotate(limit=1):
            rotated.append(some)
            time.sleep(0.001)

    in_threads(rotate, lambda: moves(accounts[5]))
    assert sum(rotated) in (4, 5)
    while person_keys.rotate():
        pass
    assert person_keys.wrapped_by() == {"second": 5}
    del keys[old]
    assert [store.load(Account, account).address for account in accounts] == [HOME] * 4 + [FORGOTTEN, HOME]


def test_a_key_that_the_environment_lacks_is_named(keys: dict[str, bytes]) -> None:
    account = opens_account()
    moves(account)
    (name,) = keys
    keys.clear()
    keys["second"] = os.urandom(32)
    with pytest.raises(UnknownWrappingKey, match=f"{name!r}, which PERSONAL_DATA_KEYS doesn't have"):
        store.load(Account, account)
    found = {str(each.id): each for each in checks.database(databases=["default"])}
    assert repr(name) in found["eventing.E025"].msg
    with pytest.raises(CommandError, match="nobody can read what those keys protect"):
        call_command("rotate_person_keys")
    keys[name] = os.urandom(32)
    with pytest.raises(UnknownWrappingKey, match="another"):
        store.load(Account, account)


def test_the_command_says_which_key_can_go(keys: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    moves(opens_account())
    (old,) = keys
    before = {**keys}
    keys.clear()
    keys.update({"second": os.urandom(32), **before})
    call_command("rotate_person_keys", "--dry-run")
    assert "1 would be encrypted with second" in capsys.readouterr().out
    call_command("rotate_person_keys")
    said = capsys.readouterr().out
    assert "1 keys were encrypted anew with second." in said
    assert f"Not needed any more, once every process has the new setting: {old}." in said
    call_command("rotate_person_keys", "--json")
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "encrypts": "second",
        "rotated": 0,
        "wrapped_by": {"second": 1},
        "not_needed": [old],
        "missing": [],
    }
