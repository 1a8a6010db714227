"""What can be done with objects: Kubernetes' generic registry (apiserver pkg/registry/generic) without HTTP.

Every method is one uninterrupted step of the event loop, from reading the present object to storing the new one:
there is nothing to lock, and nothing is half done when it raises. All raise `ApiError`. Only drafts may be made in a
thread, because they change nothing: a write that takes long is committed if what it was made from is still there.
"""

from __future__ import annotations

import dataclasses
import datetime
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, ObjectMeta, now
from netlab.api.rbac_types import RBAC
from netlab.api.resources import (
    CERTIFICATESIGNINGREQUESTS,
    CUSTOMRESOURCEDEFINITIONS,
    EPHEMERAL_CONTAINERS,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITYCLASSES,
    SERVICECIDRS,
    SERVICES,
    Resource,
)
from netlab.api.server import refusals
from netlab.api.server.admission import chain
from netlab.api.server.admission.attributes import Attributes, Mutate, Operation
from netlab.api.server.admission.chain import Chain, Plugin
from netlab.api.server.admission.namespacelifecycle import SYSTEM_NAMESPACES
from netlab.api.server.admission.priority import system_classes
from netlab.api.server.identity import OWNER, User
from netlab.api.server.objects import custom, definitions, effects, pod_scheduling, quality, reading, versions
from netlab.api.server.objects.definitions import CustomResource
from netlab.api.server.objects.problems import Problems
from netlab.api.server.objects.schema import FieldValidation, JSONObject, Mode
from netlab.api.server.objects.validation import ephemeral_containers, rules
from netlab.api.server.registry import managed_fields, service_addresses, service_changes
from netlab.api.server.registry.allocators import Allocations, Ranges
from netlab.api.server.registry.catalog import Catalog
from netlab.api.server.registry.definitions import Definitions
from netlab.api.server.registry.deletions import (
    DeleteOptions,
    check_preconditions,
    grace_period,
    is_finished,
    set_propagation,
)
from netlab.api.server.registry.managed_fields import Apply
from netlab.api.server.registry.strategies import strategy_of
from netlab.api.server.registry.successions import (
    SYSTEM_METADATA,
    check_name,
    desired,
    metadata_with_status,
    ordered,
    put_in_place,
    signed_by,
    succeed,
)
from netlab.api.server.storage.backend import check_size
from netlab.api.server.storage.store import Store
from netlab.api.server.storage.watch import Selection, Stored
from netlab.api.stored_kinds import APPROVAL, STATUS
from netlab.errors import ExhaustedError

# Resource is invariant in the type of its objects; these are asked for as any of them.
_NAMESPACES: Resource[Any] = NAMESPACES
_SERVICES: Resource[Any] = SERVICES
_SERVICECIDRS: Resource[Any] = SERVICECIDRS
_PRIORITYCLASSES: Resource[Any] = PRIORITYCLASSES

SERVICE_RANGE = "kubernetes"
"""The ServiceCIDR of the server's own ranges."""

FINALIZE = "finalize"

STRICT = FieldValidation()

OBJECT_LIMIT = 1536 * 1024
"""Bytes of an object's JSON: etcd's limit for a request (--max-request-bytes)."""

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words (apimachinery pkg/util/rand)
_LONGEST_GENERATED_BASE = 58
_NAMES_TRIED = 8
"""Names that are made up for one object, as upstream."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The object as it is now (JSON), and what its author should know."""

    raw: bytes
    warnings: tuple[str, ...] = ()
    created: bool = False
    """Whether there was none before."""


@dataclasses.dataclass(frozen=True)
class Draft:
    """An object as it is to be stored, complete and valid, and what it is to replace."""

    resource: Resource[Object]
    obj: JSONObject
    before: Stored | None
    """The object that it was made from; None if it is new."""
    changed: bool
    warnings: tuple[str, ...]
    attributes: Attributes
    """As the plugins of admission see it."""
    generated: bool = False
    """Whether the server made up its name."""
    is_applied: bool = False
    """Whether it was applied (server-side apply)."""


class Registry:
    """The objects of one cluster."""

    def __init__(self, store: Store, ranges: Ranges, admission: Sequence[Plugin] = chain.WITHOUT_CALLERS) -> None:
        self.store = store
        self.admission = Chain(admission, store)
        self.catalog = Catalog()
        """The resources that there are."""
        self.definitions = Definitions(store, self.catalog, self._replace, self.delete)
        self.policy_changes = 0
        """How often a role or a binding has changed."""
        self.first_address = ranges.first_addresses[0]
        """The address of the API's own Service."""
        self._allocations = Allocations(ranges)
        for stored in store.all(_SERVICES):
            self._record(stored, stored.decode())
        for name in SYSTEM_NAMESPACES:
            if store.get(_NAMESPACES, "", name) is None:
                self.create(_NAMESPACES, "", {"metadata": {"name": name}})
        for each in system_classes():
            if store.get(_PRIORITYCLASSES, "", each["metadata"]["name"]) is None:
                self.create(_PRIORITYCLASSES, "", each)
        if store.get(_SERVICECIDRS, "", SERVICE_RANGE) is None:
            cidrs = [str(network) for network in ranges.service_cidrs]
            self.create(_SERVICECIDRS, "", {"metadata": {"name": SERVICE_RANGE}, "spec": {"cidrs": cidrs}})

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, resource: Resource[Object], namespace: str, name: str) -> Stored:
        """One object."""
        stored = self.store.get(resource, namespace, name)
        if stored is None:
            raise refusals.not_found(resource, name)
        return stored

    def list(self, resource: Resource[Object], selection: Selection) -> list[Stored]:
        """The objects that are selected, ordered by namespace and name."""
        return [stored for stored in self.store.all(resource) if selection.matches(stored)]

    # --- writing ---------------------------------------------------------------------------------------------------

    def create(self, resource: Resource[Object], namespace: str, sent: JSONObject, *, dry_run: bool = False) -> Outcome:
        """Create an object; a name is made up from generateName when there is none."""
        return self.commit(self.draft_of_new(resource, namespace, sent), dry_run=dry_run)

    def draft_of_new(
        self,
        resource: Resource[Object],
        namespace: str,
        sent: JSONObject,
        validation: FieldValidation = STRICT,
        user: User = OWNER,
        manager: str | None = managed_fields.SERVER,
        mutate: Mutate | None = None,
    ) -> Draft:
        """What `create` is to store. May run in a thread; uses up `sent`.

        `manager` makes the object (None: its managedFields say already who did).
        """
        if isinstance(resource, CustomResource) and resource.is_terminating:
            raise refusals.terminating(resource, "create")
        version = resource
        warnings = (*reading.read(version, sent, validation), *effects.warnings(version, sent))
        sent, resource = versions.to_change(version, sent), versions.changed_as(version)
        meta = sent["metadata"]
        managed = meta.get(managed_fields.FIELD)
        put_in_place(resource, namespace, meta)
        if meta.get("resourceVersion"):
            raise refusals.bad_request("resourceVersion should not be set on objects to be created")
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if generated:
            meta["name"] = self._made_up_name(resource, namespace, meta["generateName"])
        name = meta.get("name", "")
        if not name:
            problems = Problems()
            problems.required("metadata.name", "name or generateName is required")
            raise refusals.invalid(resource, name, problems)
        for field in (*SYSTEM_METADATA[2:], managed_fields.FIELD):
            meta.pop(field, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if resource.has_generation:
            meta["generation"] = 1
        obj = ordered(resource, sent)
        strategy = strategy_of(resource)
        if resource is not NODES and not (isinstance(resource, CustomResource) and not resource.has_status):
            # A kubelet registers its node with its status (pkg/registry/core/node/strategy.go).
            obj.pop("status", None)
            if strategy.first_status:
                obj["status"] = dict(strategy.first_status)
        if resource is NAMESPACES:
            obj["spec"] = {"finalizers": ["kubernetes"]}
        if resource is CERTIFICATESIGNINGREQUESTS:
            obj["spec"] = signed_by(obj["spec"], user)
        strategy.default(obj)
        # What the server adds from here on is nobody's.
        managed = managed if manager is None else managed_fields.of_new(version, obj, manager)
        obj["metadata"] = managed_fields.noted(obj["metadata"], managed)
        attributes = Attributes(Operation.CREATE, resource, namespace, name, user, obj, version=version)
        obj = self._admitted(attributes, mutate)
        if resource is PODS:
            obj["status"]["qosClass"] = quality.qos_class(obj["spec"])
            pod_scheduling.prepare(obj)
        strategy.complete_status(obj)
        self._complete(resource, obj, None)
        obj = versions.to_storage(resource, obj)
        return Draft(resource, obj, None, changed=True, warnings=warnings, attributes=attributes, generated=generated)

    def update(
        self,
        resource: Resource[Object],
        namespace: str,
        name: str,
        sent: JSONObject,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Outcome:
        """Replace an object, or only its status (`status`) or a namespace's finalizers (`finalize`)."""
        stored = self.get(resource, namespace, name)
        return self.commit(self.draft_of_changed(resource, stored, sent, subresource), dry_run=dry_run)

    def draft_of_changed(
        self,
        resource: Resource[Object],
        stored: Stored,
        sent: JSONObject,
        subresource: str = "",
        validation: FieldValidation = STRICT,
        user: User = OWNER,
        manager: str | None = managed_fields.SERVER,
        mutate: Mutate | None = None,
    ) -> Draft:
        """What `update` is to store in the place of an object. May run in a thread; uses up `sent`.

        `manager` changes the object (None: its managedFields say already who did).
        """
        namespace, name, version = stored.namespace, stored.name, resource
        old = stored.decode()
        sent, managed = managed_fields.taken(sent, old, trusted=manager is None)
        read = reading.read_status if subresource in (STATUS, APPROVAL) else reading.read
        warnings = read(version, sent, validation)
        sent, resource = versions.to_change(version, sent), versions.changed_as(version)
        meta = sent["metadata"]
        put_in_place(resource, namespace, meta)
        check_name(sent, name)
        revision = meta.get("resourceVersion")
        # As upstream, an update from version 0 is one from whichever there is.
        check_preconditions(resource, stored, meta.get("uid"), None if revision == "0" else revision)
        if isinstance(resource, CustomResource):
            old = versions.from_storage(resource, old)
        if subresource in ("", EPHEMERAL_CONTAINERS):
            warnings = (*warnings, *effects.warnings(resource, sent, old))
        new = self._changed(resource, old, sent, subresource)
        if manager is not None:
            managed = managed_fields.of_changed(version, old, new, subresource, manager, managed)
        new["metadata"] = managed_fields.noted(new["metadata"], managed)
        place = resource, namespace, name
        attributes = Attributes(Operation.UPDATE, *place, user, new, old, subresource, version=version)
        new = self._admitted(attributes, mutate)
        if subresource == EPHEMERAL_CONTAINERS:
            self._complete(resource, new, old, ephemeral_containers.update)
        elif subresource not in (STATUS, APPROVAL, FINALIZE):
            self._complete(resource, new, old)
        elif (validate := strategy_of(resource).validate_part) is not None:
            problems = Problems()
            validate(msgspec.convert(new, resource.type), msgspec.convert(old, resource.type), subresource, problems)
            if problems:
                raise refusals.invalid(resource, name, problems)
        present = old
        if isinstance(resource, CustomResource):
            new, present = versions.to_storage(resource, new), stored.decode()
        changed = new != present and not managed_fields.is_only_later(present, new)
        return Draft(resource, new, stored, changed, warnings, attributes)

    def _admitted(self, attributes: Attributes, mutate: Mutate | None) -> JSONObject:
        """An object with what the plugins of admission, and then others, make of it."""
        self.admission.admit(attributes)
        if mutate is None:
            return attributes.obj

        def complete(changed: JSONObject) -> None:
            reading.read(attributes.resource, changed, FieldValidation(Mode.IGNORE))
            strategy_of(attributes.resource).default(changed)

        changed = mutate(attributes, complete)
        if changed is not None:
            attributes.obj = changed
            self.admission.admit(attributes)
        return attributes.obj

    def _changed(self, resource: Resource[Object], old: JSONObject, sent: JSONObject, subresource: str) -> JSONObject:
        """The old object, with what a write to it, or to a part of it, changes."""
        if subresource == STATUS:
            # Of a custom resource its status alone.
            is_custom = isinstance(resource, CustomResource)
            metadata = old["metadata"] if is_custom else metadata_with_status(resource, old, sent)
            new = old | {"metadata": metadata, "status": sent.get("status", {})}
            if isinstance(resource, CustomResource):
                custom.check_status(resource, new, sent, old)
            strategy_of(resource).complete_status(new)
            self._check_metadata(resource, new, old)
        elif subresource == APPROVAL:
            status = old.get("status", {}) | {"conditions": sent.get("status", {}).get("conditions", [])}
            new = old | {"metadata": metadata_with_status(resource, old, sent), "status": status}
            self._check_metadata(resource, new, old)
        elif subresource == FINALIZE:
            new = old | {"spec": sent.get("spec", {})}
        elif subresource == EPHEMERAL_CONTAINERS:
            added = {ephemeral_containers.FIELD: sent.get("spec", {}).get(ephemeral_containers.FIELD, [])}
            new = old | {"spec": old["spec"] | added}
            strategy_of(resource).default(new)
        else:
            new = succeed(resource, old, sent)
            if resource in (NAMESPACES, CERTIFICATESIGNINGREQUESTS):
                new["spec"] = old["spec"]  # A namespace's finalizers change by `finalize` alone.
            strategy_of(resource).default(new)
        return new

    def draft_of_applied(
        self,
        resource: Resource[Object],
        namespace: str,
        name: str,
        config: JSONObject,
        apply: Apply,
        subresource: str = "",
        validation: FieldValidation = STRICT,
        user: User = OWNER,
        mutate: Mutate | None = None,
    ) -> Draft:
        """What is to be stored when an object is applied (server-side apply). May run in a thread."""
        managed_fields.check_applied(resource, config)
        stored = self.store.get(versions.storage(resource), namespace, name)
        if stored is None:
            if subresource:
                raise refusals.not_found(resource, name)
            if apply.uncreated is not None:
                raise apply.uncreated
            if uid := config["metadata"].get("uid"):
                why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise refusals.conflict(resource, name, why)
        live = stored.decode() if stored is not None else {}
        is_custom = isinstance(resource, CustomResource)
        if is_custom and live:
            live = versions.from_storage(resource, live)
        merged = managed_fields.applied(resource, live, config, subresource, apply)
        sent = merged if is_custom else versions.from_storage(resource, merged)
        check_name(sent, name)
        if stored is None:
            draft = self.draft_of_new(resource, namespace, sent, validation, user, None, mutate)
        else:
            draft = self.draft_of_changed(resource, stored, sent, subresource, validation, user, None, mutate)
        return dataclasses.replace(draft, is_applied=True)

    def is_current(self, draft: Draft) -> bool:
        """Whether the draft is still made from what is there."""
        meta = draft.obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        present = self.store.get(draft.resource, namespace, name)
        if present is not draft.before and (draft.before is not None or draft.generated):
            return False
        if draft.resource is SERVICES:
            claims = service_addresses.claims(draft.obj, self._allocations)
            return not any(self._allocations.taken(claim, f"{namespace}/{name}") for claim in claims)
        return True

    def commit(self, draft: Draft, *, dry_run: bool = False) -> Outcome:
        """Store a draft that is current."""
        resource, obj, before, attributes = draft.resource, draft.obj, draft.before, draft.attributes
        if before is None and self.store.get(resource, attributes.namespace, attributes.name) is not None:
            raise refusals.already_exists(resource, attributes.name)
        attributes.dry_run = dry_run
        self.admission.validate(attributes)
        warnings = (*draft.warnings, *attributes.warnings)
        if before is not None and is_finished(obj):
            return Outcome(self._remove(resource, before, dry_run=dry_run), warnings)
        if before is not None and not draft.changed:
            return Outcome(before.raw, warnings)
        if resource is CUSTOMRESOURCEDEFINITIONS:
            self.definitions.accept_names(obj)
        try:
            raw = self._put(resource, obj, dry_run=dry_run, limit=OBJECT_LIMIT)
        except ApiError as error:
            # Who set what is worth less than what was set; who applies, though, needs to know.
            if error.code != 413 or draft.is_applied or not obj["metadata"].pop(managed_fields.FIELD, None):
                raise
            raw = self._put(resource, obj, dry_run=dry_run, limit=OBJECT_LIMIT)
        return Outcome(raw, warnings, created=before is None)

    def bind(self, namespace: str, name: str, node: str) -> None:
        """Assign a pod to a node."""
        resource: Resource[Any] = PODS
        stored = self.get(resource, namespace, name)
        pod = stored.decode()
        if assigned := pod["spec"].get("nodeName"):
            raise refusals.conflict(resource, name, f'pod {name} is already assigned to node "{assigned}"')
        if "deletionTimestamp" in pod["metadata"]:
            raise refusals.conflict(resource, name, f"pod {name} is being deleted, cannot be assigned to a host")
        pod["spec"]["nodeName"] = node
        conditions = [item for item in pod["status"].get("conditions", ()) if item["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        pod["status"]["conditions"] = [*conditions, scheduled]
        pod["status"].pop("nominatedNodeName", None)
        self._put(resource, pod, dry_run=False)

    def _replace(self, resource: Resource[Object], obj: JSONObject) -> None:
        """Store what the server itself has changed of an object; of a deleted one that waits for nothing more, remove
        it."""
        meta = obj["metadata"]
        if is_finished(obj):
            self._remove(resource, self.get(resource, meta.get("namespace", ""), meta["name"]), dry_run=False)
        else:
            self._put(resource, obj, dry_run=False)

    def delete(
        self,
        resource: Resource[Object],
        namespace: str,
        name: str,
        options: DeleteOptions | None = None,
        user: User = OWNER,
    ) -> tuple[Outcome, bool]:
        """Delete an object, or mark it when something has to be done first; whether it is gone already."""
        options = options or DeleteOptions()
        stored = self.get(resource, namespace, name)
        check_preconditions(resource, stored, options.preconditions.uid, options.preconditions.resourceVersion)
        dry_run = bool(options.dryRun)
        obj = stored.decode()
        self.admission.validate(Attributes(Operation.DELETE, resource, namespace, name, user, old=obj, dry_run=dry_run))
        meta = obj["metadata"]
        grace = grace_period(obj, options.gracePeriodSeconds) if resource is PODS else 0
        marked = meta.get("deletionGracePeriodSeconds")
        asked_anew = set_propagation(meta, options)
        if marked is None or grace < marked:
            end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace)
            meta["deletionTimestamp"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
            meta["deletionGracePeriodSeconds"] = grace
            if resource.has_generation:
                meta["generation"] += marked is None
            if resource is NAMESPACES:
                obj["status"] = obj.get("status", {}) | {"phase": "Terminating"}
            if resource is CUSTOMRESOURCEDEFINITIONS:
                definitions.mark_for_cleanup(obj)
        if is_finished(obj):
            return Outcome(self._remove(resource, stored, dry_run=dry_run)), True
        if marked is not None and grace >= marked and not asked_anew:
            return Outcome(stored.raw), False
        return Outcome(self._put(resource, obj, dry_run=dry_run)), False

    # --- the parts -------------------------------------------------------------------------------------------------

    def _made_up_name(self, resource: Resource[Object], namespace: str, base: str) -> str:
        name = ""
        for _ in range(_NAMES_TRIED):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            name = base[:_LONGEST_GENERATED_BASE] + suffix
            if self.store.get(resource, namespace, name) is None:
                return name
        raise refusals.no_unique_name(resource, name)

    def _complete(
        self,
        resource: Resource[Object],
        obj: JSONObject,
        old: JSONObject | None,
        validate_update: Callable[[Any, Any, Problems], None] | None = None,
    ) -> None:
        """Refuse what is invalid, and number the generation; a Service gets its addresses.

        `validate_update` is what a subresource may change, in the place of the strategy's.
        """
        strategy = strategy_of(resource)
        problems = Problems()
        if resource is SERVICES and old is not None:
            service_changes.succeed(obj, old, self._allocations)
        new_typed = msgspec.convert(obj, resource.type)
        # The names of kinds are those of built-in ones; a custom one may be called the same.
        rules.metadata(new_typed.metadata, "" if isinstance(resource, CustomResource) else resource.kind, problems)
        strategy.validate(new_typed, problems)
        strategy.check(obj, old, problems)
        name = new_typed.metadata.name
        if resource is SERVICES and not problems:
            self._allocate(obj, problems, created=old is None)
            new_typed = msgspec.convert(obj, resource.type)
        if old is not None and not problems:
            old_typed = msgspec.convert(old, resource.type)
            rules.metadata_update(new_typed.metadata, old_typed.metadata, problems)
            (validate_update or strategy.validate_update)(new_typed, old_typed, problems)
            if resource.has_generation:
                changed = desired(resource, obj, new_typed) != desired(resource, old, old_typed)
                obj["metadata"]["generation"] = old["metadata"]["generation"] + changed
        if problems:
            raise refusals.invalid(resource, name, problems)

    def _check_metadata(self, resource: Resource[Object], new: JSONObject, old: JSONObject) -> None:
        if new["metadata"] == old["metadata"]:
            return
        problems = Problems()
        changed, present = (msgspec.convert(each["metadata"], ObjectMeta) for each in (new, old))
        rules.metadata(changed, resource.kind, problems)
        rules.metadata_update(changed, present, problems)
        if problems:
            raise refusals.invalid(resource, changed.name, problems)

    def _allocate(self, service: JSONObject, problems: Problems, *, created: bool) -> None:
        try:
            service_addresses.complete(service, created=created, allocations=self._allocations, problems=problems)
        except ExhaustedError as error:
            raise refusals.exhausted(error) from None

    def _put(self, resource: Resource[Object], obj: JSONObject, *, dry_run: bool, limit: int | None = None) -> bytes:
        if dry_run:
            raw = msgspec.json.encode(obj)
            check_size(raw, limit)
            return raw
        stored = self.store.put(resource, obj, limit)
        self.policy_changes += resource.group == RBAC
        if resource is SERVICES:
            self._record(stored, obj)
        if resource is CUSTOMRESOURCEDEFINITIONS:
            self.definitions.changed(obj)
        return stored.raw

    def _remove(self, resource: Resource[Object], stored: Stored, *, dry_run: bool) -> bytes:
        if dry_run:
            return stored.raw
        gone = self.store.remove(resource, stored.namespace, stored.name)
        self.policy_changes += resource.group == RBAC
        if resource is SERVICES:
            self._record(stored, {})
        if resource is CUSTOMRESOURCEDEFINITIONS:
            self.definitions.removed(stored.name)
        if isinstance(resource, CustomResource):
            self.definitions.instance_removed(resource)
        return gone.raw

    def _record(self, stored: Stored, service: JSONObject) -> None:
        owner = f"{stored.namespace}/{stored.name}"
        self._allocations.record(owner, service_addresses.claims(service, self._allocations))
