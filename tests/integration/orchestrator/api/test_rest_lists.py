"""Lists: pages that lose and repeat nothing, filters, and cursors that fit one list only."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import pytest

from tests.harness import Stack

LIST = "/api/v1/executions"
PROGRAM = {"environment": "python", "code": "print(1)"}


@pytest.fixture
def tenant(api: Stack) -> dict[str, str]:
    """Headers of a key of a tenant that has nothing yet."""
    return tenant_of(api)


def tenant_of(api: Stack) -> dict[str, str]:
    return api.headers_of(f"t-{secrets.token_hex(6)}", "executions:read", "executions:write")


def submit(api: Stack, headers: dict[str, str], **changes: Any) -> str:
    answer = api.client.post(LIST, json={**PROGRAM, **changes}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def page(api: Stack, headers: dict[str, str], **query: Any) -> dict[str, Any]:
    answer = api.client.get(LIST, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == {"items", "next_cursor"}
    return found


def ids(api: Stack, headers: dict[str, str], **query: Any) -> list[str]:
    """Every id of a list, over all its pages."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        one = page(api, headers, **query, **cursor)
        found += [item["id"] for item in one["items"]]
        if one["next_cursor"] is None:
            return found
        cursor = {"cursor": one["next_cursor"]}


def test_pages_lose_and_repeat_nothing_while_new_executions_arrive(api: Stack, tenant: dict[str, str]) -> None:
    batch = [submit(api, tenant) for _ in range(120)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    sizes = []
    while True:
        one = page(api, tenant, limit=17, **cursor)
        seen += [item["id"] for item in one["items"]]
        sizes.append(len(one["items"]))
        submit(api, tenant, labels={"late": "yes"})
        if one["next_cursor"] is None:
            break
        cursor = {"cursor": one["next_cursor"]}
    assert seen == batch[::-1]
    assert sizes[:7] == [17] * 7
    assert len(ids(api, tenant, label="late:yes")) == len(sizes), "those that arrived are in a list begun later"


def test_a_deleted_execution_neither_breaks_a_page_nor_its_cursor(api: Stack, tenant: dict[str, str]) -> None:
    made = [submit(api, tenant) for _ in range(6)]
    first = page(api, tenant, limit=3)
    for id in (made[3], made[2]):  # the last of the page that was seen, the first of the next
        api.client.post(f"{LIST}/{id}/cancel", headers=tenant)
        assert api.client.delete(f"{LIST}/{id}", headers=tenant).status_code == 204
    rest = page(api, tenant, limit=3, cursor=first["next_cursor"])
    assert [item["id"] for item in rest["items"]] == [made[1], made[0]]


def test_the_default_page_has_fifty(api: Stack, tenant: dict[str, str]) -> None:
    made = [submit(api, tenant) for _ in range(51)]
    assert [item["id"] for item in page(api, tenant)["items"]] == made[:0:-1]
    assert len(page(api, tenant, limit=200)["items"]) == 51


def test_listed_executions_carry_no_output_and_no_program(api: Stack, tenant: dict[str, str]) -> None:
    submit(api, tenant, code="print('a secret')", env={"TOKEN": "hidden"}, stdin="private")
    (item,) = page(api, tenant)["items"]
    assert item["state"] == "queued"
    assert item["stdout"] is None
    text = json.dumps(item)
    assert not any(word in text for word in ("a secret", "hidden", "private"))


def test_list_is_filtered_by_state_and_label(api: Stack, tenant: dict[str, str]) -> None:
    plain = submit(api, tenant)
    node = submit(api, tenant, environment="node", code="1")
    red = submit(api, tenant, labels={"team": "red", "run": "1"})
    blue = submit(api, tenant, labels={"team": "blue:sky", "run": "1"})
    gone = submit(api, tenant, labels={"team": "red"})
    assert api.client.post(f"{LIST}/{gone}/cancel", headers=tenant).status_code == 202

    assert ids(api, tenant) == [gone, blue, red, node, plain]
    assert ids(api, tenant, state="queued") == [blue, red, node, plain]
    assert ids(api, tenant, state="cancelled") == [gone]
    assert ids(api, tenant, state="running") == []
    assert ids(api, tenant, environment="node") == [node]
    assert ids(api, tenant, environment="js") == [node], "an alias means its environment"
    assert ids(api, tenant, environment="cobol") == []
    assert ids(api, tenant, label="team:red") == [gone, red]
    assert ids(api, tenant, label="team:blue:sky") == [blue], "the first colon divides"
    assert ids(api, tenant, label=["team:red", "run:1"]) == [red]
    assert ids(api, tenant, label=["team:red", "team:blue:sky"]) == [], "every label must fit"
    assert ids(api, tenant, state="queued", environment="python", label="run:1") == [blue, red]
    assert ids(api, tenant, label="team:") == []


def test_a_filtered_list_pages_too(api: Stack, tenant: dict[str, str]) -> None:
    wanted = []
    for number in range(30):
        id = submit(api, tenant, labels={"kind": "even" if number % 2 == 0 else "odd"})
        if number % 2 == 0:
            wanted.append(id)
    assert ids(api, tenant, label="kind:even", limit=4) == wanted[::-1]


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"limit": 0}, "validation_failed", "limit"),
        ({"limit": -1}, "validation_failed", "limit"),
        ({"limit": 201}, "validation_failed", "limit"),
        ({"limit": "many"}, "validation_failed", "limit"),
        ({"limit": "9" * 400}, "validation_failed", "limit"),
        ({"state": "sleeping"}, "validation_failed", "state"),
        ({"label": "team"}, "invalid_label", "label"),
        ({"label": ":red"}, "invalid_label", "label"),
        ({"label": ["a:b"] * 33}, "validation_failed", "label"),
        ({"environment": "x" * 65}, "validation_failed", "environment"),
        ({"cursor": ""}, "invalid_cursor", "cursor"),
        ({"cursor": "no cursor"}, "invalid_cursor", "cursor"),
        ({"cursor": "é\0"}, "invalid_cursor", "cursor"),
        ({"cursor": "A" * 513}, "validation_failed", "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b"[" * 300).decode()}, "invalid_cursor", "cursor"),
    ],
)
def test_a_bad_query_is_refused_by_name(
    api: Stack, tenant: dict[str, str], query: dict[str, Any], code: str, field: str
) -> None:
    answer = api.client.get(LIST, params=query, headers=tenant)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [error["field"].partition(".")[0] for error in answer.json()["errors"]] == [field]


def test_cursor_is_valid_only_for_its_own_list(api: Stack, tenant: dict[str, str]) -> None:
    for _ in range(3):
        submit(api, tenant, labels={"team": "red"})
    other = tenant_of(api)
    submit(api, other)
    cursor = page(api, tenant, limit=1, label="team:red")["next_cursor"]
    assert len(page(api, tenant, label="team:red", cursor=cursor)["items"]) == 2
    assert len(page(api, tenant, label="team:red", cursor=cursor, limit=1)["items"]) == 1, "the limit may change"
    for headers, query in (
        (tenant, {}),
        (tenant, {"label": "team:blue"}),
        (tenant, {"label": ["team:red", "run:1"]}),
        (tenant, {"label": "team:red", "state": "queued"}),
        (other, {"label": "team:red"}),
    ):
        answer = api.client.get(LIST, params={**query, "cursor": cursor}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), query


@pytest.mark.parametrize("position", ["NaN", "1e999", "-Infinity", "1" + "0" * 400, '"1"', "null", "[]", "true, 1"])
def test_a_forged_position_in_a_cursor_is_refused(api: Stack, tenant: dict[str, str], position: str) -> None:
    for _ in range(2):
        submit(api, tenant)
    cursor = page(api, tenant, limit=1)["next_cursor"]
    list_id, created, id = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    forged = base64.urlsafe_b64encode(f'["{list_id}", {position}, "{id}"]'.encode()).decode()
    answer = api.client.get(LIST, params={"cursor": forged}, headers=tenant)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("invalid_cursor", "validation_failed")
    unforged = base64.urlsafe_b64encode(f'["{list_id}", {created!r}, "{id}"]'.encode()).decode()
    assert len(page(api, tenant, cursor=unforged)["items"]) == 1
