"""The page of an order, and those of its payment, its shipment and its articles, as people of each role get them."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from config.dashboard.history import EVENTS, MOST, NEAR, STOCK, STOCK_TYPES
from eventing import audit, letter_jobs, letters
from eventing.checkpoints import pause
from eventing.contact import Contact
from eventing.context import acting
from eventing.handlers import dispatch
from eventing.letters import Filter
from eventing.models import Delivery, SagaInstance
from eventing.statements import run
from eventing.subscriptions import subscription_named
from eventing.testing import settle
from inventory.commands import ListStockItem, ReceiveStock
from orders.commands import CancelOrder, PlaceOrder, ReturnItems, ReturnLine
from orders.events import Line
from orders.models import OrderSummary, Return
from payments.commands import payment_of
from payments.models import GatewayEntry, GatewayOutage
from shipping.commands import DeliverShipment, DispatchShipment
from shipping.models import Consignment, ShipmentSummary
from tests.builders import CUSTOMER, HEART, LANTERN, LINES, ORDER, PAYMENT, SHIPMENT_ID, TOTAL, pounds
from tests.clients import with_role

pytestmark = pytest.mark.django_db

ANN = Contact(name="Ann Archer", email="ann@example.org", street="1 Mill Lane", city="Ambridge", country="GB")
PAGES = {
    "order": reverse("dashboard:order", args=[ORDER]),
    "payment": reverse("dashboard:payment", args=[PAYMENT]),
    "shipment": reverse("dashboard:shipment", args=[SHIPMENT_ID]),
    "stock-item": reverse("dashboard:stock-item", args=[HEART]),
}
ACTS = ["order-cancel", "order-return", "order-dispatch", "order-deliver", "order-retry"]


@pytest.fixture(autouse=True)
def stock() -> None:
    for sku, price, quantity in ((HEART, "2.55", 20), (LANTERN, "3.39", 5)):
        dispatch(ListStockItem(sku=sku, description="A thing", list_price=pounds(price)))
        dispatch(ReceiveStock(sku=sku, quantity=quantity))


def place(method: str = "tok_visa", order_id: UUID = ORDER, **changes: Any) -> None:
    command = PlaceOrder(
        order_id=order_id,
        customer_id=CUSTOMER,
        lines=LINES,
        reference="536365",
        payment_method=method,
        contact=ANN,
        **changes,
    )
    with acting(actor="ann"):
        dispatch(command)


@pytest.fixture
def viewer() -> Client:
    return with_role("viewer")


@pytest.fixture
def operator() -> Client:
    return with_role("operator")


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return str(answer.content.decode())


def act(client: Client, name: str, **fields: str) -> HttpResponse:
    answer = client.post(reverse(f"dashboard:{name}", args=[ORDER]), {"next": PAGES["order"], **fields})
    return cast(HttpResponse, answer)


def status() -> str:
    settle()
    return OrderSummary.objects.get(pk=ORDER).status


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_for_those_who_may_look(page: str) -> None:
    place()
    settle()
    assert Client().get(PAGES[page]).status_code == 302, "nobody is asked who they are"
    assert with_role().get(PAGES[page]).status_code == 302, "an account that isn't staff is asked for another"
    for role in ("viewer", "operator", "administrator"):
        text(with_role(role).get(PAGES[page]))
    unknown = User.objects.create_user("stranger", is_staff=True)
    client = Client()
    client.force_login(unknown)
    assert client.get(PAGES[page]).status_code == 403


@pytest.mark.parametrize("name", ["order", "payment", "shipment"])
def test_what_there_isnt_has_no_page(viewer: Client, name: str) -> None:
    assert viewer.get(reverse(f"dashboard:{name}", args=[uuid4()])).status_code == 404
    assert viewer.get(reverse("dashboard:stock-item", args=["NONE"])).status_code == 404


@pytest.mark.parametrize("name", ACTS)
def test_nothing_is_done_by_looking_nor_by_those_who_may_not(viewer: Client, name: str) -> None:
    place()
    address = reverse(f"dashboard:{name}", args=[ORDER])
    assert with_role("operator").get(address).status_code == 405
    assert viewer.post(address, {"reason": "Because"}).status_code == 403
    assert not LogEntry.objects.exists()
    assert status() == "confirmed"


def test_a_viewer_sees_why_nothing_can_be_pressed(viewer: Client) -> None:
    place()
    settle()
    page = text(viewer.get(PAGES["order"]))
    for permission in ("orders.cancel_order", "orders.return_items", "shipping.dispatch_shipment"):
        assert f"Takes the permission {permission}." in page


def test_personal_data_are_for_those_who_may_see_them() -> None:
    place()
    settle()
    for role, sees in (("viewer", False), ("operator", False), ("administrator", True)):
        page = text(with_role(role).get(PAGES["order"], {"version": 1}))
        assert ("Ann Archer" in page, "ann@example.org" in page, "1 Mill Lane" in page) == (sees, sees, sees)
        assert ("[hidden]" in page) is not sees


def test_everything_that_happened_is_told_with_its_cause(viewer: Client) -> None:
    place("tok_timeout")
    settle()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()
    dispatch(ReturnItems(order_id=ORDER, return_id=uuid4(), lines=(ReturnLine(number=1, quantity=2),), reason="Broken"))
    settle()
    entries = viewer.get(PAGES["order"]).context["entries"]
    told = [each.title for each in entries]
    for wanted in (
        "Order placed: 3 lines",
        "Payment requested with tok_timeout",
        "Attempt 1 failed: OutcomeUnknown",
        "Paid",
        f"Stock reserved: 12 of {HEART}, 2 of {LANTERN}",
        "Order confirmed",
        "Shipment dispatched",
        "Order delivered",
        "Goods came back: 1 line, Broken",
        f"Stock received: 2 of {HEART}",
        "Money given back",
        "Gateway: charge succeeded",
    ):
        assert wanted in told
    numbers = {each.name: each.number for each in entries}
    assert all(numbers[each.cause.name] < each.number for each in entries if each.cause), "causes come first"
    requested = next(each for each in entries if each.title.startswith("Payment requested"))
    assert (requested.cause.kind, requested.cause.cause.title) == ("saga", "Order placed: 3 lines")
    paid = next(each for each in entries if each.title == "Paid")
    assert (paid.cause.kind, paid.cause.who, paid.amount) == ("job", "payments.charge", str(TOTAL))
    received = next(each for each in entries if each.title.startswith("Stock received"))
    assert received.cause.title == "Goods came back: 1 line, Broken"
    assert next(each.who for each in entries) == "ann"


def test_a_refund_that_was_given_up_led_to_the_failure(viewer: Client) -> None:
    pause(subscription_named("shipping.book"))
    place()
    settle()
    GatewayOutage.objects.create(message="Out of order.")
    dispatch(CancelOrder(order_id=ORDER, reason="Changed my mind"))
    settle()
    letter = Delivery.objects.get(subscription="payments.refund", state="dead")
    failed = next(each for each in viewer.get(PAGES["order"]).context["entries"] if each.title.endswith("→ FAILED"))
    assert failed.title == f"Letter {letter.pk} was given up → FAILED"
    assert (failed.cause.kind, failed.cause.name) == ("job", f"job-{letter.pk}")
    told = text(viewer.get(reverse("operations:saga", args=["orders.OrderFulfilment", ORDER])))
    assert f"letter {letter.pk}</a> was given up" in told
    assert reverse("operations:letter", args=[letter.pk]) in told


def test_the_timeline_shows_one_kind_when_asked(viewer: Client) -> None:
    place()
    settle()
    entries = viewer.get(PAGES["order"], {"kind": "outside"}).context["entries"]
    assert next(each.title for each in entries) == "Gateway: charge succeeded"
    assert {each.kind for each in entries} == {"outside"}


def test_an_order_of_any_version_and_what_changed_there(viewer: Client) -> None:
    place()
    settle()
    page = viewer.get(PAGES["order"], {"version": 1})
    assert {each.label: each.value for each in page.context["fields"]}["Status"] == "placed"
    confirmed = next(number for number, title in page.context["versions"] if title == "order confirmed")
    there = viewer.get(PAGES["order"], {"version": confirmed})
    changed = {each.label: (each.before, each.value) for each in there.context["fields"] if each.is_changed}
    assert changed["Status"] == ("placed", "confirmed")
    assert viewer.get(PAGES["order"]).context["version"] == 0
    for wrong in ("0", "99", "one", "9" * 40):
        assert viewer.get(PAGES["order"], {"version": wrong}).status_code == 404


def test_a_page_of_an_order_that_no_read_model_has_yet(viewer: Client) -> None:
    place()
    assert "doesn&#x27;t have it yet" in text(viewer.get(PAGES["order"])) or "doesn't have it yet" in text(
        viewer.get(PAGES["order"])
    )


def test_a_page_that_is_finished_doesnt_ask_again(viewer: Client) -> None:
    place()
    settle()
    fragment = viewer.get(PAGES["order"], headers={"HX-Request": "true"})
    assert (fragment.status_code, b"<html" in fragment.content) == (200, False)
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()
    assert viewer.get(PAGES["order"], headers={"HX-Request": "true"}).status_code == 286
    assert "data-refresh" not in text(viewer.get(PAGES["order"]))


def test_an_operator_cancels_for_a_reason(operator: Client) -> None:
    place()
    assert act(operator, "order-cancel", reason="  Asked by phone ")["Location"] == PAGES["order"]
    act(operator, "order-cancel", reason="Again")
    assert status() == "cancelled"
    (entry,) = LogEntry.objects.all()
    assert audit.told(entry) == {"act": "cancelled", "reason": "Asked by phone"}
    page = operator.get(PAGES["order"])
    assert "Cancelled: Asked by phone" in [each.title for each in page.context["entries"]]
    assert "Order cancelled: Asked by phone" in text(page)


def test_what_the_domain_refuses_is_said(operator: Client) -> None:
    place()
    act(operator, "order-cancel", reason=" ")
    assert "The reason" in text(operator.get(PAGES["order"]))
    assert status() == "confirmed"
    act(operator, "order-cancel", reason="Too late")
    assert "only one that is placed and not yet confirmed" in text(operator.get(PAGES["order"]))
    assert not LogEntry.objects.exists()


def test_an_operator_dispatches_delivers_and_takes_back(operator: Client) -> None:
    place()
    settle()
    act(operator, "order-dispatch")
    assert status() == "shipped"
    act(operator, "order-deliver")
    assert status() == "delivered"
    form = {"return_id": str(uuid4()), "quantity-1": "2", "quantity-2": "", "quantity-3": "0", "reason": "Broken"}
    act(operator, "order-return", **form)
    act(operator, "order-return", **form)
    settle()
    assert [(each.units, each.refund_minor, each.reason) for each in Return.objects.all()] == [(2, 510, "Broken")]
    assert [audit.told(each)["act"] for each in LogEntry.objects.order_by("pk")] == [
        "dispatched",
        "delivered",
        "returned items",
    ]
    assert "2 units, 5.10 GBP: Broken" in text(operator.get(PAGES["order"]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Nothing was said to have come back"),
        ({"quantity-1": "many"}, "is no number of units"),
        ({"quantity-1": "99"}, "more can&#x27;t"),
        ({"quantity-1": "1", "return_id": "one"}, "open the order&#x27;s page anew"),
    ],
)
def test_a_return_that_makes_no_sense_is_refused(operator: Client, fields: dict[str, str], said: str) -> None:
    place()
    settle()
    act(operator, "order-dispatch")
    settle()
    act(operator, "order-return", **{"return_id": str(uuid4()), "reason": "Broken", **fields})
    assert said in text(operator.get(PAGES["order"]))
    assert not Return.objects.exists()


def test_an_order_with_a_slash_in_an_article_has_a_page(viewer: Client) -> None:
    line = Line(sku="A/B", description="", quantity=1, unit_price=pounds("1.00"))
    order = uuid4()
    dispatch(PlaceOrder(order_id=order, customer_id=None, lines=(line,)))
    page = text(viewer.get(reverse("dashboard:order", args=[order])))
    assert reverse("dashboard:stock-item", args=["A/B"]) in page


@pytest.mark.parametrize("version", [1, 3])
def test_an_order_is_shown_up_to_what_this_program_cant_read(version: int) -> None:
    if version > 1:
        place()
    blesses("order", ORDER, version=version)
    administrator = with_role("administrator")
    page = administrator.get(PAGES["order"])
    assert f"From version {version} on the program can't read what happened to this order." in text(page)
    assert page.context["why"].sentence.startswith("How far it is can't be told: this program can't read")
    assert "Order blessed, which this program can't read" in [each.title for each in page.context["entries"]]
    assert [number for number, _ in page.context["versions"]] == list(range(1, version))
    assert administrator.get(PAGES["order"], {"version": version}).status_code == 404
    form = {"return_id": str(uuid4()), "quantity-1": "2", "reason": "Broken"}
    for name in ("order-cancel", "order-return"):
        act(administrator, name, **form)
        said = " ".join(map(str, administrator.get(PAGES["order"]).context["messages"]))
        assert said.startswith("The program can't read all that happened, so it can't decide"), name
    assert not LogEntry.objects.exists()


def blesses(category: str, stream_id: UUID, *, version: int) -> None:
    """Newer code records something that ours has never heard of."""
    run(
        """
        INSERT INTO eventing_event (id, category, stream_id, version, type, schema_version, data, metadata, occurred_at,
            recorded_at, correlation_id, actor, traceparent)
        VALUES (%(id)s, %(category)s, %(stream)s, %(version)s, 'orders.order_blessed', 1, '{}', '{}', now(), now(),
            %(id)s, 'newer', '')
        """,
        {"id": uuid4(), "category": category, "stream": str(stream_id), "version": version},
    )


@pytest.mark.parametrize("path", ["?version=1" + "0" * 5_000, "?version=%00", "?kind=%00"])
def test_what_no_version_can_be_isnt_found(viewer: Client, path: str) -> None:
    place()
    assert viewer.get(f"{PAGES['order']}{path}").status_code == 404


def test_a_reason_that_cant_be_stored_is_refused(operator: Client) -> None:
    said = "The reason has characters that can&#x27;t be shown"
    place()
    act(operator, "order-cancel", reason="Changed\0my mind")
    assert said in text(operator.get(PAGES["order"]))
    assert status() == "confirmed"
    act(operator, "order-dispatch")
    assert status() == "shipped"
    act(operator, "order-return", **{"return_id": str(uuid4()), "quantity-1": "1", "reason": "Bro\0ken"})
    assert said in text(operator.get(PAGES["order"]))
    assert not Return.objects.exists()


def test_an_act_about_many_letters_is_told_of_each_order_that_it_was_about(viewer: Client) -> None:
    orders = [ORDER, uuid4(), uuid4()]
    GatewayOutage.objects.create(message="The gateway is down.")
    for order_id in orders:
        place(order_id=order_id)
    settle()
    who = User.objects.get(username="viewer")
    first, second, third = (Delivery.objects.get(sequence=f"payment-{payment_of(each)}") for each in orders)
    both = Filter(ids=(first.pk, second.pk))
    letters.skip(Filter(ids=(third.pk,)), reason='So be it: "letter_ids":[' + str(second.pk) + "]", who=who)
    letter_jobs.cancel(letter_jobs.start(both, who=who), who=who)
    for many in (both, Filter(signature=first.signature)):
        fail_again(first, second)
        letters.retry(many, who=who)
    fail_again(first, second)
    letters.skip(both, reason="It was a drill", who=who)
    told = ["Began to retry", "Cancelled", "Retried", "Retried", "Skipped: It was a drill"]
    assert [acts_on(viewer, order_id) for order_id in orders[:2]] == [told, told]
    assert acts_on(viewer, orders[2]) == [f'Skipped: So be it: "letter_ids":[{second.pk}]']


def test_acts_are_told_of_their_own_order_whatever_is_looked_up_first(viewer: Client, operator: Client) -> None:
    place()
    act(operator, "order-cancel", reason="Asked by phone")
    for remembered in ([], [ShipmentSummary], [SagaInstance, Delivery]):
        ContentType.objects.clear_cache()
        ContentType.objects.get_for_models(*remembered)
        assert acts_on(viewer, ORDER) == ["Cancelled: Asked by phone"]


def fail_again(*failed: Delivery) -> None:
    Delivery.objects.filter(pk__in=[each.pk for each in failed]).update(state="dead")


def acts_on(client: Client, order_id: UUID) -> list[str]:
    """What operators did, as the order's page tells it."""
    page = client.get(reverse("dashboard:order", args=[order_id]), {"kind": "act"})
    return [each.title for each in page.context["entries"]]


def test_an_operator_has_its_letters_tried_again(operator: Client) -> None:
    GatewayOutage.objects.create(message="The gateway is down.")
    place()
    settle()
    Delivery.objects.filter(subscription="payments.charge").update(state="dead")
    GatewayOutage.objects.all().delete()
    act(operator, "order-retry")
    settle()  # the job alone: what it leads to comes after
    assert status() == "confirmed"
    act(operator, "order-retry")
    assert "Nothing of this order waits to be tried again." in text(operator.get(PAGES["order"]))


@pytest.mark.parametrize("role", ["viewer", "administrator"])
def test_a_long_history_costs_as_many_queries_as_a_short_one(role: str) -> None:
    other, client = uuid4(), with_role(role)
    place()
    place("tok_timeout", order_id=other)
    settle()
    dispatch(DispatchShipment(shipment_id=SHIPMENT_ID))
    settle()
    dispatch(DeliverShipment(shipment_id=SHIPMENT_ID))
    settle()
    for _ in range(5):
        back = (ReturnLine(number=1, quantity=1),)
        dispatch(ReturnItems(order_id=ORDER, return_id=uuid4(), lines=back, reason="Broken"))
        settle()
    text(client.get(PAGES["order"]))  # content types and the like are remembered
    with CaptureQueriesContext(
        connection,
    ) as short:
        text(client.get(reverse("dashboard:order", args=[other])))
    with CaptureQueriesContext(connection) as long:
        text(client.get(PAGES["order"]))
    assert len(long) <= len(short) + 2
    assert len(long) < 60


def test_a_payment_that_the_gateway_knows_otherwise_is_marked(viewer: Client) -> None:
    place()
    settle()
    page = text(viewer.get(PAGES["payment"]))
    assert "say the same" in page
    assert "differ:" not in page
    GatewayEntry.objects.update(amount_minor=1)
    page = text(viewer.get(PAGES["payment"]))
    assert "differ:</strong> Amount" in page
    GatewayEntry.objects.all().delete()
    assert "differ:</strong> Charge" in text(viewer.get(PAGES["payment"]))


def test_a_shipment_that_the_carrier_knows_otherwise_is_marked(viewer: Client) -> None:
    place()
    settle()
    assert "say the same" in text(viewer.get(PAGES["shipment"]))
    Consignment.objects.update(tracking_number="WB-OTHER")
    assert "differ:</strong> Tracking number" in text(viewer.get(PAGES["shipment"]))


def test_an_article_tells_who_reserved_it_page_by_page(viewer: Client) -> None:
    place()
    settle()
    page = text(viewer.get(PAGES["stock-item"]))
    assert f'href="{PAGES["order"]}"' in page
    assert "12 reserved" in page
    for number in range(60):
        dispatch(ReceiveStock(sku=HEART, quantity=1, reference=f"D{number}"))
    settle()
    newest = viewer.get(PAGES["stock-item"])
    assert [each.record.version for each in newest.context["history"]] == list(range(63, 13, -1))
    older = viewer.get(PAGES["stock-item"], {"before": newest.context["older"]})
    assert [each.record.version for each in older.context["history"]] == list(range(13, 0, -1))
    assert older.context["older"] == 0
    assert viewer.get(PAGES["stock-item"], {"before": "x"}).status_code == 404


def test_no_part_of_a_history_goes_through_all_events() -> None:
    named = {"categories": ["order"], "ids": [str(ORDER)], "limit": MOST}
    near = {"positions": [1], "near": NEAR, "types": STOCK_TYPES, "order_id": str(ORDER), "returns": [], "limit": MOST}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    for statement, asked, index in (
        (EVENTS, named, "eventing_event_stream_version"),
        (STOCK, near, "eventing_event_pkey"),
    ):
        plan = "\n".join(line for (line,) in run(f"EXPLAIN {statement}", asked))
        assert f"using {index}" in plan, plan
        assert "Seq Scan" not in plan, plan
