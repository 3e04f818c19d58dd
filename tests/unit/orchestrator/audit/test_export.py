"""Exports of the audit log, against OCSF's own schema."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from orchestrator.audit import Origin
from orchestrator.audit.export import ACTIVITIES, FORMATS
from orchestrator.identity.authorization import ACTIONS

WHOLE: dict[str, Any] = {
    "id": "0123456789abcdef", "action": "key.create", "outcome": "done", "principal": "key:k", "tenant": "t",
    "resource": "api-key/1", "owner": "t", "execution": "e", "address": "2001:db8::1", "request_id": "r",
    "position": "1700000000000-0", "time": "2023-11-14T22:13:20Z",
}  # fmt: skip
REFUSED = {"outcome": "refused", "code": "unauthenticated", "count": 10}
ABSENT: list[tuple[str, ...]] = [
    (), ("principal", "tenant"), ("resource",), ("execution",), ("address",), ("request_id",),
]  # fmt: skip


@cache
def validator() -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.3.0"))
    name = schema.lookup_class_name_from_uid(class_uid=6003)
    return Draft202012Validator(schema.get_class_schema(class_name=name, profiles=[]))


def event(item: dict[str, Any], *absent: str) -> Any:
    return FORMATS["ocsf"]({name: value for name, value in item.items() if name not in absent})


def faults(found: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(found)]


@pytest.mark.parametrize("absent", [*ABSENT, tuple(name for names in ABSENT for name in names)], ids=",".join)
@pytest.mark.parametrize("item", [WHOLE, WHOLE | REFUSED], ids=["done", "refused"])
def test_exported_event_is_valid_by_the_schema_of_ocsf(item: dict[str, Any], absent: tuple[str, ...]) -> None:
    assert faults(event(item, *absent)) == []


@pytest.mark.parametrize("action", [*ACTIONS, *(f"x.{name}" for name in ACTIVITIES), "authenticate"])
def test_event_of_every_action_is_valid_by_the_schema_of_ocsf(action: str) -> None:
    assert faults(event(WHOLE | {"action": action})) == []


@pytest.mark.parametrize("change", [{"src_endpoint": {}}, {"severity_id": 9}, {"other": 1}, {"time": "now"}])
def test_schema_of_ocsf_refuses_a_wrong_event(change: dict[str, Any]) -> None:
    """The control of the tests above."""
    assert faults({**event(WHOLE), **change})


def test_unknown_origin_is_not_made_up() -> None:
    assert Origin().address is None
    assert event(WHOLE, "address")["src_endpoint"] == {"name": "unknown"}
    assert event(WHOLE, "principal")["actor"] == {"user": {"name": "unknown"}}
    assert event(WHOLE)["src_endpoint"] == {"ip": "2001:db8::1"}


def test_event_has_the_resource_and_the_execution() -> None:
    assert event(WHOLE)["resources"] == [{"uid": "api-key/1"}, {"uid": "execution/e"}]
    assert event(WHOLE, "execution")["resources"] == [{"uid": "api-key/1"}]
    assert FORMATS["cloudevents"](WHOLE)["data"]["execution"] == "e"
