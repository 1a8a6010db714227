"""What an event says, and under which name."""

from __future__ import annotations

from netlab.api.core_types import Node, Pod, PodSpec
from netlab.api.events import MESSAGE_LIMIT, WARNING, new_event
from netlab.api.meta_types import ObjectMeta


def pod(name: str = "web", version: str = "1") -> Pod:
    meta = ObjectMeta(name=name, namespace="shop", uid="u-1", resourceVersion=version)
    return Pod(apiVersion="v1", kind="Pod", metadata=meta, spec=PodSpec(containers=[]))


def test_an_event_names_what_it_befell() -> None:
    event = new_event(pod(), WARNING, "Failed", "no", component="kubelet", host="node-1")
    assert event.metadata.namespace == "shop"
    assert (event.involvedObject.kind, event.involvedObject.name, event.involvedObject.uid) == ("Pod", "web", "u-1")
    assert (event.source.component, event.source.host, event.count) == ("kubelet", "node-1", 1)


def test_repeats_share_a_name_and_others_do_not() -> None:
    first = new_event(pod(), WARNING, "Failed", "no", component="kubelet")
    assert (
        new_event(pod(version="2"), WARNING, "Failed", "no", component="kubelet").metadata.name == first.metadata.name
    )
    others = [
        new_event(pod("db"), WARNING, "Failed", "no", component="kubelet"),
        new_event(pod(), "Normal", "Failed", "no", component="kubelet"),
        new_event(pod(), WARNING, "Other", "no", component="kubelet"),
        new_event(pod(), WARNING, "Failed", "yes", component="kubelet"),
        new_event(pod(), WARNING, "Failed", "no", component="kubelet", host="node-1"),
    ]
    assert len({first.metadata.name, *(other.metadata.name for other in others)}) == 6


def test_a_cluster_scoped_object_has_its_events_in_default() -> None:
    node = Node(metadata=ObjectMeta(name="node-1"))
    event = new_event(node, WARNING, "CIDRNotAvailable", "none left", component="node-ipam")
    assert (event.metadata.namespace, event.involvedObject.namespace) == ("default", "")


def test_names_and_messages_are_cut_to_what_the_api_accepts() -> None:
    event = new_event(pod("a" * 253), WARNING, "Failed", "x" * 5000, component="kubelet")
    assert len(event.metadata.name) == 253
    assert len(event.message) == MESSAGE_LIMIT
