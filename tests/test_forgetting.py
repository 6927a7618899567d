"""A person is forgotten: what told of them is in no table of the database any more, and everything goes on working."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from eventing import deliveries, replay, sagas, snapshots, store
from eventing.advance import advance
from eventing.comparison import Comparison
from eventing.contact import Contact
from eventing.handlers import dispatch
from eventing.models import Delivery, PersonKey, SagaInstance, SagaStep, StoredEvent
from eventing.person_keys import Forgotten
from eventing.projections import ProjectionSubscription
from eventing.records import Stream
from eventing.relay import relay_all
from eventing.replay import comparison_of, projection_named, rebuild
from eventing.shadows import exists, previous_of
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.aggregates import Order
from orders.commands import PlaceOrder
from orders.models import OrderSummary
from orders.sagas import OrderFulfilment
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, pounds
from tests.clients import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)

ADA = Contact(
    name="Ada Quillfeather",
    email="ada.quillfeather@example.org",
    phone="+44 20 7946 0991",
    street="17 Thistledown Mews",
    postcode="QX7 3ZB",
    city="Nether Wallop",
    country="GB",
)

TELLTALES = ("Quillfeather", "quillfeather@", "7946 0991", "Thistledown", "QX7 3ZB", "Nether Wallop")
BOB = Contact(name="Bob Marchbanks", email="bob@example.org")


@pytest.fixture(autouse=True)
def stock() -> None:
    for sku in (HEART, LANTERN):
        dispatch(ListStockItem(sku=sku, description="", list_price=pounds("1.00")))
        dispatch(ReceiveStock(sku=sku, quantity=1_000))


@pytest.fixture
def summaries() -> ProjectionSubscription:
    return projection_named("orders.OrderSummaries")


def places_order(contact: Contact = ADA, *, customer: UUID | None = CUSTOMER, method: str = "tok_visa") -> UUID:
    order = uuid4()
    dispatch(PlaceOrder(order_id=order, customer_id=customer, lines=LINES, payment_method=method, contact=contact))
    return order


def dump() -> str:
    """Every row of every table of every schema, as PostgreSQL writes it."""
    written = StringIO()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname !~ '^(pg_|information_schema)'"
        )
        for (table,) in cursor.fetchall():
            with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                written.writelines(bytes(block).decode() for block in copy)
    return written.getvalue()


def found_in(text: str) -> set[str]:
    """What of Ada is in a text, also where it was written as the bytes of a bytea."""
    return {each for each in TELLTALES if each in text or each.encode().hex() in text}


def forgets(person: UUID, *options: str) -> Any:
    output = StringIO()
    call_command(
        "forget_customer", str(person), "--reason", "She asked us to.", "--json", "--yes", *options, stdout=output
    )
    return json.loads(output.getvalue())


def test_nothing_that_told_of_a_person_is_left_in_the_database(
    summaries: ProjectionSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "snapshot_every", 10)
    orders = [places_order(), places_order()]
    settle()
    bobs = places_order(BOB, customer=uuid4())
    in_flight = places_order()
    sum(relay_all())
    for partition in range(4):
        advance(subscription_named("orders.OrderFulfilment"), partition)
    fulfilment = sagas.instance(OrderFulfilment, in_flight)
    assert fulfilment is not None
    assert "$personal" in str(fulfilment.memory["recipient"])
    snapshots.take(Stream.of(Order, orders[0]))
    letter_quoting(orders[0], f"No such address: {ADA.street}, {ADA.email}")
    OrderSummary.objects.filter(pk=orders[1]).update(contact_name="Ada Quillfeather-Smith")
    rebuild(summaries)  # shows the difference, and keeps the old table

    before = dump()
    assert found_in(before) == set(TELLTALES)
    assert not found_in("".join(map(str, StoredEvent.objects.values_list("data", "metadata"))))
    steps = "".join(map(str, SagaStep.objects.values_list("commands", "memory")))
    assert "shipping.CreateShipment" in steps
    assert not found_in(steps)

    report = forgets(CUSTOMER, "--by", "a clerk")
    assert report["streams"] == {"order": 3, "shipment": 2}
    assert (report["letters_blanked"], report["not_rolled_back_any_more"]) == (1, ["orders.OrderSummaries"])
    settle()

    assert found_in(dump()) == set()
    assert "Marchbanks" in dump()
    assert OrderSummary.objects.get(pk=bobs).contact_name == "Bob Marchbanks"
    assert set(OrderSummary.objects.values_list("status", flat=True)) == {"confirmed"}
    assert {saga.state for saga in SagaInstance.objects.all()} == {"COMPLETED"}


def letter_quoting(order: UUID, message: str) -> None:
    """A dead letter about an order, whose error quotes what it was at."""
    event = StoredEvent.objects.get(category="order", stream_id=str(order), version=1)
    Delivery.objects.create(
        subscription="orders.CustomerOrders",
        partition=0,
        sequence="another",
        event=event,
        position=event.log.position,
        state=Delivery.State.DEAD,
        attempts=8,
        error=f"ValueError: {message}",
        traceback=f"Traceback …\nValueError: {message}",
    )


def test_everything_reads_as_forgotten(admin_client: Client) -> None:
    order = places_order()
    settle()
    api = ApiClient()
    api.force_login(User.objects.get(username="admin"))
    assert api.get(f"/api/v1/orders/{order}").json()["contact"]["name"] == ADA.name
    page = f"/admin/operations/orders/{order}/"
    assert ADA.email in admin_client.get(page).content.decode()
    assert (placed := store.load(Order, order).placed) is not None
    assert placed.contact == ADA

    forgets(CUSTOMER)
    assert (placed := store.load(Order, order).placed) is not None
    assert placed.contact is None  # at once, in every process
    settle()

    for path in (f"/api/v1/orders/{order}", f"/api/v1/orders/{order}?version=1"):
        answer = api.get(path).json()
        assert (answer["contact"], answer["status"] in ("placed", "confirmed")) == (None, True)
    assert api.get(f"/api/v1/orders/{order}").json()["buyer_forgotten_at"] is not None
    history = api.get(f"/api/v1/orders/{order}/history").json()["results"]
    assert [each["type"] for each in history] == [
        "orders.order_placed",
        "orders.order_status_changed",
        "orders.order_confirmed",
        "orders.order_status_changed",
        "orders.buyer_forgotten",
    ]
    assert history[0]["data"]["contact"] is None
    assert not found_in(admin_client.get(page).content.decode())
    shown = StringIO()
    call_command("show_stream", "order", str(order), "--json", stdout=shown)
    assert not found_in(shown.getvalue())


def test_who_asked_and_why_stays(admin_client: Client) -> None:
    places_order()
    forgets(CUSTOMER, "--by", "clerk 7")
    event = StoredEvent.objects.get(type="eventing.person_forgotten")
    assert (event.actor, event.data) == ("clerk 7", {"person_id": str(CUSTOMER), "reason": "She asked us to."})
    assert PersonKey.objects.get(person=str(CUSTOMER)).wrapped is None


def test_a_replay_shows_the_same_as_the_live_read_models() -> None:
    places_order()
    settle()
    forgets(CUSTOMER)
    settle()
    for projection in replay.projections():
        compared = comparison_of(rebuild(projection, verify_only=True))
        assert isinstance(compared, Comparison)
        assert compared.same


def test_remembered_aggregates_forget_too() -> None:
    order = places_order()
    settle()
    forgets(CUSTOMER)
    settle()
    with store.edit(Order, order) as remembered:
        assert remembered.placed is not None
        assert remembered.placed.contact is None


def test_a_guest_is_known_by_the_order() -> None:
    order = places_order(customer=None)
    settle()
    assert forgets(order)["streams"] == {"order": 1, "shipment": 1}
    settle()
    assert found_in(dump()) == set()


def test_nothing_personal_can_be_recorded_of_somebody_who_was_forgotten() -> None:
    places_order()
    forgets(CUSTOMER)
    with pytest.raises(Forgotten, match="was forgotten, and nothing personal can be recorded of them any more"):
        places_order()
    dispatch(PlaceOrder(order_id=uuid4(), customer_id=CUSTOMER, lines=LINES))


def test_an_order_that_is_under_way_ends_all_the_same() -> None:
    order = places_order()
    forgets(CUSTOMER)
    settle()
    assert OrderSummary.objects.get(pk=order).status == "confirmed"
    assert found_in(dump()) == set()


def test_asked_twice_it_says_since_when() -> None:
    places_order()
    first = forgets(CUSTOMER)
    again = forgets(CUSTOMER)
    assert (first["already"], again["already"]) == (False, True)
    assert StoredEvent.objects.filter(type="eventing.person_forgotten").count() == 1


def test_only_saying_what_would_be_forgotten_forgets_nothing() -> None:
    order = places_order()
    report = forgets(CUSTOMER, "--dry-run")
    assert (report["streams"], report["forgotten_at"]) == ({"order": 1}, None)
    placed = store.load(Order, order).placed
    assert placed is not None
    assert placed.contact == ADA


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [
        ((str(uuid4()), "--reason", "x"), "Nothing personal is known of", 1),
        ((str(uuid4()), "--reason", "x", "--dry-run"), "Nothing personal is known of", 1),
        ((str(uuid4()), "--reason", "  "), "The reason is empty", 2),
        (("Ada", "--reason", "x"), "invalid UUID value: 'Ada'", 1),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], complaint: str, code: int) -> None:
    with pytest.raises(CommandError, match=complaint) as caught:
        call_command("forget_customer", *arguments)
    assert caught.value.returncode == code


def test_letters_of_others_keep_their_errors() -> None:
    order, bobs = places_order(), places_order(BOB, customer=uuid4())
    settle()
    letter_quoting(order, ADA.email)
    letter_quoting(bobs, BOB.email)
    forgets(CUSTOMER)
    errors = sorted(deliveries.failed().values_list("error", flat=True))
    assert errors == ["ValueError: (forgotten)", "ValueError: bob@example.org"]


def test_what_is_kept_of_other_replays_goes_as_well(summaries: ProjectionSubscription) -> None:
    places_order()
    settle()
    rebuild(summaries)
    assert exists(previous_of(summaries))
    forgets(CUSTOMER)
    assert not exists(previous_of(summaries))


def test_the_projection_shows_a_contact_as_it_was_given() -> None:
    order = places_order()
    settle()
    row = OrderSummary.objects.get(pk=order)
    assert Contact(**{name: getattr(row, f"contact_{name}") for name in Contact.__struct_fields__}) == ADA
