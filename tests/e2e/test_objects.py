import json

import pytest

from tests.e2e.conftest import Netlab, eventually
from tests.e2e.test_lab import WEB


def test_manifests_are_applied_shown_changed_and_deleted(lab: Netlab) -> None:
    assert lab.ok("apply", "-f", "-", stdin=WEB) == "service/web created\ndeployment/web created\n"
    assert lab.ok("apply", "-f", "-", stdin=WEB) == "service/web unchanged\ndeployment/web unchanged\n"
    lab.wait_available("web", 3)
    assert lab.ok("apply", "-f", "-", stdin=WEB.replace("replicas: 3", "replicas: 1")) == (
        "service/web unchanged\ndeployment/web configured\n"
    )
    lab.wait_available("web", 1)
    lab.ok("delete", "-f", "-", stdin=WEB)
    left = lab.json("get", "svc,deploy")["items"]
    assert [item["metadata"]["name"] for item in left] == ["kubernetes"]


def test_tables_show_what_kubectl_shows(lab: Netlab) -> None:
    assert lab.ok("get", "nodes").splitlines()[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert "192.0.2.1" in lab.ok("get", "no", "-o", "wide")
    header = ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert lab.ok("get", "events").splitlines()[0].split() == header
    # Several kinds, of all Namespaces: each object with its kind and Namespace.
    several = [line.split() for line in lab.ok("get", "svc,ns", "-A").splitlines()]
    assert several[1][:3] == ["default", "service/kubernetes", "ClusterIP"]
    assert ["namespace/default", "Active"] in [cells[:2] for cells in several]
    assert lab.ok("get", "ns", "-o", "name").split() == [
        "namespace/default",
        "namespace/kube-node-lease",
        "namespace/kube-system",
    ]
    assert "kind: Node" in lab.ok("get", "node", "node-1", "-o", "yaml")
    assert lab.json("get", "node/node-1")["metadata"]["name"] == "node-1"


REFUSED = [
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, imag: x}]}",
        "spec.containers[0].imag",
    ),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}", "spec.containers"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: P}\nspec: {containers: [{name: c, image: x}]}", "metadata.name"),
    ("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 0}]}", "spec.ports[0].port"),
    ("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: eighty}]}", "spec.ports[0].port"),
    ("apiVersion: v1\nkind: Servce\nmetadata: {name: s}", "did you mean Service?"),
    ("apiVersion: v2\nkind: Pod\nmetadata: {name: s}", "kind: 'Pod' of 'v2' is unknown"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: []}", "metadata.name"),
    ("just a text", "is not an object"),
    ("a: [", "standard input"),
]


@pytest.mark.parametrize(("manifest", "named"), REFUSED)
def test_a_wrong_manifest_is_refused_with_its_path_and_nothing_of_the_file_is_applied(
    lab: Netlab, manifest: str, named: str
) -> None:
    good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n---\n"
    assert named in lab.fails(2, "apply", "-f", "-", stdin=good + manifest)
    assert "good" not in lab.ok("get", "namespaces")


def test_what_comes_with_a_new_namespace_has_nothing_to_do_with_its_namesakes(lab: Netlab) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: same%s}\nspec: {containers: [{name: c, image: %s}]}\n"
    lab.ok("apply", "-f", "-", stdin=pod % ("", "pause"))
    namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: new}"
    done = lab.ok("apply", "-f", "-", stdin=pod % (", namespace: new", "agnhost") + namespace)
    assert done == "namespace/new created\npod/same created\n"
    lab.ok("delete", "namespace", "new")
    lab.ok("delete", "pod", "same", "--grace-period", "0")


def test_a_field_that_has_no_effect_here_is_warned_of(lab: Netlab) -> None:
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: heavy}\n"
        "spec: {containers: [{name: c, image: pause, securityContext: {seLinuxOptions: {level: s0}}}]}"
    )
    done = lab.run("apply", "-f", "-", stdin=pod)
    assert (done.returncode, "spec.containers[0].securityContext" in done.stderr) == (0, True)
    lab.ok("delete", "pod", "heavy", "--grace-period", "0")


def test_what_is_not_there_is_not_found(lab: Netlab) -> None:
    assert "not found" in lab.fails(3, "get", "pod", "absent")
    assert "not found" in lab.fails(3, "delete", "svc", "absent")
    assert "no pod ''" in lab.fails(3, "trace", "", "outside")
    assert "no pod ''" in lab.fails(3, "capture", "--pod", "")
    assert "no machine ''" in lab.fails(3, "exec", "node/", "--", "true")
    assert "there is no kind 'gizmos': netlab has namespaces (ns), " in lab.fails(2, "get", "gizmos")
    assert "there is no kind 'pdos': did you mean pods?" in lab.fails(2, "delete", "pdos", "a")


def test_an_object_of_a_namespace_in_the_same_file_is_applied(lab: Netlab) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: own}\nspec: {ports: [{port: 80}]}\n"
    text += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: own}\n"
    lab.ok("apply", "-f", "-", stdin=text)
    assert json.loads(lab.ok("get", "svc", "s", "-n", "own", "-o", "json"))["spec"]["clusterIP"]
    lab.ok("delete", "namespace", "own")
    assert "own" not in lab.ok("get", "ns", "-o", "name")


@pytest.mark.parametrize(
    "arguments",
    [
        ("delete", "service", ""),
        ("delete", "svc/"),
        ("delete", "svc/web", ""),
        ("delete", "svc", "web", ""),
        ("delete", "svc", "-l", " "),
        ("delete", "svc", "web", "-l", "app=web"),
        ("delete", "svc", "web", "--all"),
        ("delete", "svc", "?x="),
        ("delete", "svc", "-n", "default/services?x=", "web"),
        ("delete", "svc", "-n", "", "--all"),
        ("delete", "svc", "web/status"),
        ("get", "svc", ""),
        ("get", "svc", "web?watch=1"),
        ("get", "svc", "a b"),
        ("get", "svc", "a\x1b[2J\n"),
        ("get", "svc", "caf\u00e9"),
        ("get", "svc", "web", "-A"),
        ("logs", ""),
        ("exec", "", "--", "true"),
        ("scenario", "run", ""),
        ("get", "svc", "--name", ""),
    ],
)
def test_what_is_no_name_is_refused_and_nothing_is_deleted(lab: Netlab, arguments: tuple[str, ...]) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}"
    lab.ok("apply", "-f", "-", stdin=service)
    refusal = lab.fails(2, *arguments).removesuffix("\n")
    assert refusal.isprintable()
    assert lab.ok("get", "svc", "-o", "name") == "service/kubernetes\nservice/web\n"


def test_a_manifest_whose_name_is_a_query_is_refused(lab: Netlab) -> None:
    manifest = 'apiVersion: v1\nkind: Service\nmetadata: {name: "?x="}\nspec: {ports: [{port: 80}]}'
    for command in ("apply", "delete"):
        assert "metadata: service name '?x='" in lab.fails(2, command, "-f", "-", stdin=manifest)


SHAPED = """
apiVersion: v1
kind: Pod
metadata: {name: shaped, annotations: {kubernetes.io/ingress-bandwidth: 8M, kubernetes.io/egress-bandwidth: 4M}}
spec:
  nodeName: node-1
  containers: [{name: c, image: agnhost, args: [netexec, --http-port=80], ports: [{containerPort: 80, hostPort: 8088}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: wrong, annotations: {kubernetes.io/egress-bandwidth: fast}}
spec: {containers: [{name: c, image: pause}]}
"""


def test_a_pod_has_the_bandwidth_of_its_annotations_and_its_ports_of_the_node(lab: Netlab) -> None:
    lab.ok("apply", "-f", "-", stdin=SHAPED)
    eventually(lambda: lab.json("get", "pod", "shaped")["status"]["phase"] == "Running")
    shaping = lab.ok("exec", "node/node-1", "--", "tc", "class", "show", "dev", _shaped_link(lab))
    assert "rate 8Mbit" in shaping
    lab.ok("exec", "outside", "--", "/agnhost", "connect", "192.0.2.1:8088")
    eventually(lambda: "annotation kubernetes.io/egress-bandwidth" in lab.ok("get", "pod", "wrong", "-o", "yaml"))
    assert "FailedCreatePodSandBox" in lab.ok("get", "events")
    lab.ok("delete", "pod", "shaped", "wrong", "--grace-period", "0")
    assert "htb" not in lab.ok("exec", "node/node-1", "--", "tc", "qdisc", "show")


def _shaped_link(lab: Netlab) -> str:
    qdiscs = lab.ok("exec", "node/node-1", "--", "tc", "qdisc", "show").splitlines()
    return next(line.split()[4] for line in qdiscs if "htb" in line and "dev veth" in line)


_BOXES = """
apiVersion: example.com/v1
kind: Box
metadata: {name: first}
spec: {size: 1}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boxes, kind: Box, shortNames: [bx]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer, maximum: 9}}}}
"""

_DEPENDENT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: of-a-box, ownerReferences: [{apiVersion: example.com/v1, kind: Box, name: first, uid: %s}]}
"""


_COUNTED = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: few}
spec: {hard: {count/boxes.example.com: "2"}}
"""

_OWNED_BOX = """
apiVersion: example.com/v1
kind: Box
metadata: {name: %s, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: %s}]}
spec: {size: 2}
"""


def test_kinds_that_are_defined_are_as_any_other(lab: Netlab) -> None:
    # All or none, also where the definition comes with its objects.
    assert "spec.size in body should be less than or equal to 9" in lab.fails(
        2, "apply", "-f", "-", stdin=_BOXES.replace("size: 1}", "size: 10}")
    )
    assert "no kind 'boxes'" in lab.fails(2, "get", "boxes")
    applied = "customresourcedefinition/boxes.example.com created\nbox/first created\n"
    assert lab.ok("apply", "-f", "-", stdin=_BOXES) == applied
    assert lab.ok("apply", "-f", "-", stdin=_BOXES) == applied.replace("created", "unchanged")
    assert lab.ok("get", "bx").split() == ["NAME", "SIZE", "first", "1"]
    uid = lab.json("get", "boxes.example.com", "first")["metadata"]["uid"]
    lab.ok("apply", "-f", "-", stdin=_DEPENDENT % uid)
    lab.ok("apply", "-f", "-", stdin=_COUNTED)
    _boxes_are_counted(lab, 1)
    lab.ok("apply", "-f", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owner}")
    owner = lab.json("get", "cm", "owner")["metadata"]["uid"]
    lab.ok("apply", "-f", "-", stdin=_OWNED_BOX % ("second", owner))
    beyond = lab.run("apply", "-f", "-", stdin=_OWNED_BOX % ("third", owner))
    assert "exceeded quota: few, requested: count/boxes.example.com=1, used: count/boxes.example.com=2" in beyond.stderr
    lab.ok("delete", "cm", "owner")
    _boxes_are_counted(lab, 1)
    assert "second" not in lab.ok("get", "boxes")
    lab.ok("delete", "box/first")
    eventually(lambda: "of-a-box" not in lab.ok("get", "cm"))
    _boxes_are_counted(lab, 0)
    lab.ok("delete", "resourcequota", "few")
    lab.ok(
        "apply", "-n", "away", "-f", "-", stdin="apiVersion: v1\nkind: Namespace\nmetadata: {name: away}\n---" + _BOXES
    )
    lab.ok("delete", "ns", "away")
    assert lab.ok("get", "boxes", "-A") == ""
    lab.ok("apply", "-f", "-", stdin=_BOXES)
    deleted = "box/first deleted\ncustomresourcedefinition/boxes.example.com deleted\n"
    assert lab.ok("delete", "-f", "-", stdin=_BOXES) == deleted
    assert "no kind 'box'" in lab.fails(2, "get", "box")


def _boxes_are_counted(lab: Netlab, count: int) -> None:
    counted = {"count/boxes.example.com": str(count)}
    eventually(lambda: lab.json("get", "resourcequota", "few").get("status", {}).get("used") == counted)
