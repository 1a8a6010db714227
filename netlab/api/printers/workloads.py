"""The columns of workloads."""

from __future__ import annotations

from netlab.api.printers import (
    AGE,
    NAME,
    NONE,
    Cell,
    Column,
    JSONObject,
    Printer,
    age,
    duration,
    labels,
    name,
    seconds_of,
    selector,
    since,
)

_TEMPLATE = (
    Column("Containers", "The names of the template's containers.", 1),
    Column("Images", "The images of the template's containers.", 1),
    Column("Selector", "The labels of its pods.", 1),
)


def _template(spec: JSONObject) -> list[Cell]:
    return [*_containers(spec["template"]), selector(spec.get("selector"))]


def _containers(template: JSONObject) -> list[Cell]:
    containers = template.get("spec", {}).get("containers", ())
    return [",".join(each.get(field, "") for each in containers) for field in ("name", "image")]


def _deployment(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    counts = [status.get(field, 0) for field in ("updatedReplicas", "availableReplicas")]
    return [name(obj), ready, *counts, age(obj, now), *_template(spec)]


DEPLOYMENT = Printer(
    (
        NAME,
        Column("Ready", "How many of its pods are ready, of how many that are wanted."),
        Column("Up-to-date", "How many pods have the present template."),
        Column("Available", "How many pods have been ready for long enough."),
        AGE,
        *_TEMPLATE,
    ),
    _deployment,
)


def _replica_set(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name(obj), *counts, age(obj, now), *_template(spec)]


REPLICA_SET = Printer(
    (
        NAME,
        Column("Desired", "How many pods are wanted.", type="integer"),
        Column("Current", "How many pods there are.", type="integer"),
        Column("Ready", "How many pods are ready.", type="integer"),
        AGE,
        *_TEMPLATE,
    ),
    _replica_set,
)


def _scale(obj: JSONObject, now: float) -> list[Cell]:
    return [name(obj), obj["spec"]["replicas"], obj["status"]["replicas"], age(obj, now)]


SCALE = Printer(
    (
        NAME,
        Column("Desired", "How many pods are wanted.", type="integer"),
        Column("Available", "How many pods there are.", type="integer"),
        AGE,
    ),
    _scale,
)


def _replication_controller(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    containers = _containers(spec.get("template", {}))
    return [name(obj), *counts, age(obj, now), *containers, labels(spec.get("selector"))]


REPLICATION_CONTROLLER = Printer(REPLICA_SET.columns, _replication_controller)


_COUNTED = (
    "desiredNumberScheduled",
    "currentNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
)


def _daemon_set(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    counts = [status.get(field, 0) for field in _COUNTED]
    nodes = labels(spec["template"]["spec"].get("nodeSelector"))
    return [name(obj), *counts, nodes, age(obj, now), *_template(spec)]


DAEMON_SET = Printer(
    (
        NAME,
        Column("Desired", "On how many nodes a pod is wanted.", type="integer"),
        Column("Current", "How many of these have one.", type="integer"),
        Column("Ready", "How many have one that is ready.", type="integer"),
        Column("Up-to-date", "How many have one with the present template.", type="integer"),
        Column("Available", "How many have one that has been ready for long enough.", type="integer"),
        Column("Node Selector", "The labels of the nodes."),
        AGE,
        *_TEMPLATE,
    ),
    _daemon_set,
)


def _stateful_set(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *_containers(spec["template"])]


STATEFUL_SET = Printer(
    (NAME, Column("Ready", "How many of its pods are ready, of how many that are wanted."), AGE, *_TEMPLATE[:2]),
    _stateful_set,
)


def _controller_revision(obj: JSONObject, now: float) -> list[Cell]:
    owners = obj["metadata"].get("ownerReferences", ())
    owner = next((each for each in owners if each.get("controller")), None)
    if owner is None:
        return [name(obj), NONE, obj["revision"], age(obj, now)]
    group = owner["apiVersion"].rpartition("/")[0]
    kind = owner["kind"].lower() + (f".{group}" if group else "")
    return [name(obj), f"{kind}/{owner['name']}", obj["revision"], age(obj, now)]


CONTROLLER_REVISION = Printer(
    (
        NAME,
        Column("Controller", "Whose revision it is."),
        Column("Revision", "Its number.", type="integer"),
        AGE,
    ),
    _controller_revision,
)


_INTERIM_STATES = ("Suspended", "FailureTarget", "SuccessCriteriaMet")


def _job_state(obj: JSONObject) -> str:
    holding = {each["type"] for each in obj.get("status", {}).get("conditions", ()) if each["status"] == "True"}
    for kind in ("Complete", "Failed"):
        if kind in holding:
            return kind
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((kind for kind in _INTERIM_STATES if kind in holding), "Running")


def _job(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    succeeded, parallelism = status.get("succeeded", 0), spec.get("parallelism", 0)
    completions = f"{succeeded}/{spec.get('completions', 1)}"
    if "completions" not in spec and parallelism > 1:
        completions += f" of {parallelism}"
    took = ""
    if started := status.get("startTime"):
        ended = status.get("completionTime")
        took = duration((seconds_of(ended) if ended else now) - seconds_of(started))
    return [name(obj), _job_state(obj), completions, took, age(obj, now), *_template(spec)]


JOB = Printer(
    (
        NAME,
        Column("Status", "Running, Complete, Failed, or why it does not run."),
        Column("Completions", "How many pods have succeeded, of how many that are wanted."),
        Column("Duration", "How long it has taken."),
        AGE,
        *_TEMPLATE,
    ),
    _job,
)


def _cron_job(obj: JSONObject, now: float) -> list[Cell]:
    spec, status = obj["spec"], obj.get("status", {})
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        spec["schedule"],
        spec.get("timeZone", NONE),
        "True" if spec.get("suspend") else "False",
        len(status.get("active", ())),
        since(last, now) if last else NONE,
        age(obj, now),
        *_template(spec["jobTemplate"]["spec"]),
    ]


CRON_JOB = Printer(
    (
        NAME,
        Column("Schedule", "When its Jobs are due."),
        Column("Timezone", "The time zone of the schedule."),
        Column("Suspend", "Whether none is started.", type="boolean"),
        Column("Active", "How many Jobs run.", type="integer"),
        Column("Last Schedule", "When a Job was due last."),
        AGE,
        *_TEMPLATE,
    ),
    _cron_job,
)


def _budget(obj: JSONObject, now: float) -> list[Cell]:
    spec = obj.get("spec", {})
    bounds = [str(spec.get(field, "N/A")) for field in ("minAvailable", "maxUnavailable")]
    allowed = obj.get("status", {}).get("disruptionsAllowed", 0)
    return [name(obj), *bounds, allowed, age(obj, now)]


POD_DISRUPTION_BUDGET = Printer(
    (
        NAME,
        Column("Min Available", "The fewest pods that are to be available."),
        Column("Max Unavailable", "The most pods that may be unavailable."),
        Column("Allowed Disruptions", "How many pods may be evicted now.", type="integer"),
        AGE,
    ),
    _budget,
)
