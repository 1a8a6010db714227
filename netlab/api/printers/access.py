"""ConfigMaps, ServiceAccounts, Endpoints, APIServices, and the kinds of RBAC."""

from __future__ import annotations

from netlab.api.printers import AGE, NAME, NONE, Cell, Column, JSONObject, Printer, age, name

_MOST_ENDPOINTS = 3


def _config_map(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


CONFIG_MAP = Printer((NAME, Column("Data", "How many entries it has.", type="integer"), AGE), _config_map)


def _secret(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


SECRET = Printer(
    (
        NAME,
        Column("Type", "What it is for."),
        Column("Data", "How many entries it has.", type="integer"),
        AGE,
    ),
    _secret,
)


def _service_account(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), len(obj.get("secrets") or ()), age(obj, now)]


SERVICE_ACCOUNT = Printer(
    (NAME, Column("Secrets", "How many secrets it may use.", type="integer"), AGE), _service_account
)


def _endpoints(obj: JSONObject, now: float) -> list[Cell]:
    found = []
    for subset in obj.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ip = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            found += [f"{ip}:{port['port']}" for port in subset.get("ports") or ()] or [ip]
    more = f" + {len(found) - _MOST_ENDPOINTS} more..." if len(found) > _MOST_ENDPOINTS else ""
    return [name(obj), (",".join(found[:_MOST_ENDPOINTS]) or NONE) + more, age(obj, now)]


ENDPOINTS = Printer((NAME, Column("Endpoints", "Its ready addresses with each port."), AGE), _endpoints)


def _api_service(obj: JSONObject, now: float) -> list[Cell]:
    service = obj["spec"].get("service")
    conditions: list[JSONObject] = obj.get("status", {}).get("conditions", [])
    available = next((each for each in conditions if each["type"] == "Available"), {})
    status, reason = available.get("status", "Unknown"), available.get("reason", "")
    return [
        name(obj),
        f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local",
        f"{status} ({reason})" if reason and status != "True" else status,
        age(obj, now),
    ]


API_SERVICE = Printer(
    (
        NAME,
        Column("Service", "The Service behind which its server is."),
        Column("Available", "Whether it is served."),
        AGE,
    ),
    _api_service,
)


def _created(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), obj["metadata"].get("creationTimestamp", "")]


ROLE = Printer((NAME, Column("Created At", "When it was made.")), _created)


def _binding(obj: JSONObject, now: float) -> list[Cell]:
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        text = (
            f"{subject.get('namespace', '')}/{subject['name']}"
            if subject["kind"] == "ServiceAccount"
            else subject["name"]
        )
        by_kind.setdefault(subject["kind"], []).append(text)
    role = f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"
    listed = (", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount"))
    return [name(obj), role, age(obj, now), *listed]


BINDING = Printer(
    (
        NAME,
        Column("Role", "The role whose rules it gives."),
        AGE,
        Column("Users", "The users who get them.", 1),
        Column("Groups", "The groups that get them.", 1),
        Column("ServiceAccounts", "The service accounts that get them.", 1),
    ),
    _binding,
)
