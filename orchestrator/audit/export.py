"""Entries of the audit log in other formats: CloudEvents 1.0, and OCSF 1.3 (API Activity, 6003)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator import __version__

Document = Mapping[str, Any]
UNKNOWN = "unknown"  # OCSF's word where it requires a value
KNOWN = ("position", "time", "stored")
CREATE, READ, UPDATE, DELETE, OTHER = 1, 2, 3, 4, 99  # activities of OCSF's class
ACTIVITIES = {
    "create": CREATE,
    "submit": CREATE,
    "read": READ,
    "declare": UPDATE,
    "accept": UPDATE,
    "remove": DELETE,
    "revoke": DELETE,
}


def json_entry(item: Document) -> Document:
    """The entry in the API's form."""
    return item


def cloud_event(item: Document) -> Document:
    """A CloudEvent of type ``dev.mayfly.audit.<action>``."""
    subject = {"subject": item["resource"]} if item.get("resource") else {}
    return {
        "specversion": "1.0",
        "id": item["id"],
        "source": "/mayfly/audit",
        "type": f"dev.mayfly.audit.{item['action']}",
        "time": item["time"],
        **subject,
        "datacontenttype": "application/json",
        "data": {name: value for name, value in item.items() if name not in KNOWN},
    }


def ocsf_event(item: Document) -> Document:
    """An event of OCSF's class API Activity."""
    activity = ACTIVITIES.get(str(item["action"]).rpartition(".")[2], OTHER)
    failed = item["outcome"] != "done"
    return {
        "category_uid": 6,
        "class_uid": 6003,
        "activity_id": activity,
        "type_uid": 600300 + activity,
        "severity_id": 2 if failed else 1,
        "status_id": 2 if failed else 1,
        **({"status_code": item["code"]} if item.get("code") else {}),
        "time": milliseconds(item),
        "metadata": {
            "version": "1.3.0",
            "uid": item["id"],
            "product": {"name": "Mayfly", "vendor_name": "Mayfly", "version": __version__},
        },
        "actor": {"user": _user(item)},
        "api": {"operation": item["action"], **_named("request", item.get("request_id"))},
        "src_endpoint": {"ip": item["address"]} if item.get("address") else {"name": UNKNOWN},
        "resources": [{"uid": resource} for resource in _resources(item)],
    }


def _resources(item: Document) -> list[str]:
    resource, execution = item.get("resource"), item.get("execution")
    return [*([str(resource)] if resource else []), *([f"execution/{execution}"] if execution else [])]


def _user(item: Document) -> Document:
    """The principal; unknown for a caller without a valid key."""
    return (
        {"uid": item["principal"], **_named("org", item.get("tenant"))} if item.get("principal") else {"name": UNKNOWN}
    )


def _named(member: str, uid: str | None) -> Document:
    """A member whose object has only an id; empty without an id."""
    return {member: {"uid": uid}} if uid else {}


def milliseconds(item: Document) -> int:
    """An entry's time in milliseconds since the epoch."""
    return int(str(item["position"]).partition("-")[0])


FORMATS: dict[str, Callable[[Document], Document]] = {
    "json": json_entry,
    "cloudevents": cloud_event,
    "ocsf": ocsf_event,
}
