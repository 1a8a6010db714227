"""Reading scenario folders: what is right, and what each mistake is told."""

from pathlib import Path

import pytest

from netlab.errors import NotFoundError, UsageError
from netlab.lab.paths import scenarios_dir
from netlab.lab.spec import LabSpec
from netlab.scenario.definition import Header, find, load, shipped

HEADER = "name: mine\ntitle: A lesson of mine\ntraffic: pod-to-pod\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: main, image: pause}]}\n"
CHECKS = 'from netlab.scenario import check\n\n@check("It holds")\ndef holds(ctx):\n    ctx.expect(1, 1)\n'


def make(folder: Path, **changes: str | None) -> Path:
    """A scenario's folder; a change of None leaves the file out."""
    contents = {"scenario.yaml": HEADER, "manifests/pod.yaml": POD, "checks.py": CHECKS, "README.md": "# Mine\n"}
    names = {"header": "scenario.yaml", "manifest": "manifests/pod.yaml", "checks": "checks.py", "text": "README.md"}
    contents |= {names[key]: text for key, text in changes.items()}  # type: ignore[misc]
    (folder / "manifests").mkdir(parents=True)
    for name, text in contents.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_a_folder_is_a_scenario(tmp_path: Path) -> None:
    scenario = load(make(tmp_path / "mine"))
    assert (scenario.name, scenario.header.traffic, scenario.header.nodes) == ("mine", "pod-to-pod", 1)
    assert [check.title for check in scenario.checks] == ["It holds"]
    assert [document["kind"] for document in scenario.manifests] == ["Pod"]
    assert scenario.text == "# Mine\n"
    assert sorted(path.name for path in scenario.folder.iterdir()) == [
        "README.md",
        "checks.py",
        "manifests",
        "scenario.yaml",
    ]


def test_checks_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = 'from netlab.scenario import check\n@check("2nd")\ndef z(ctx): ...\n@check("1st")\ndef a(ctx): ...\n'
    assert [check.title for check in load(make(tmp_path / "mine", checks=text)).checks] == ["2nd", "1st"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"header": None}, "scenario.yaml: No such file or directory"),
        ({"header": "name: [\n"}, "scenario.yaml:2: "),
        ({"header": ""}, "scenario.yaml: expected one document, found 0"),
        ({"header": HEADER + "---\n" + HEADER}, "scenario.yaml: expected one document, found 2"),
        ({"header": "name: mine\ntraffic: pod-to-pod\n"}, "scenario.yaml: title: is required"),
        (
            {"header": HEADER.replace("pod-to-pod", "pod-to-moon")},
            "scenario.yaml: traffic: 'pod-to-moon' is not one of intra-pod, pod-to-pod, pod-to-service, external",
        ),
        (
            {"header": HEADER + "colour: red\n"},
            "scenario.yaml: colour: there is no such field: the fields are name, title, traffic, nodes, networks",
        ),
        ({"header": HEADER + "node: 2\n"}, "scenario.yaml: node: there is no such field: did you mean nodes?"),
        ({"header": "[a]\n"}, "scenario.yaml: document 1 is not an object"),
        ({"header": "1: 2\n"}, "scenario.yaml: '1': there is no such field"),
        ({"header": HEADER + "nodes: many\n"}, "scenario.yaml: nodes: expected int, got str"),
        ({"header": HEADER + "nodes: 0\n"}, "scenario.yaml: nodes: 0 is not between 1 and 100"),
        (
            {"header": HEADER + "networks: [vxlam]\n"},
            "scenario.yaml: networks[0]: 'vxlam' is not one of vxlan, routed, bridge",
        ),
        ({"header": HEADER.replace("mine", "Mine!", 1)}, "scenario.yaml: name: 'Mine!' is not a DNS label"),
        ({"header": HEADER.replace("mine", "m" * 41, 1)}, "is not a DNS label"),
        ({"manifest": None}, "manifests: the folder has no *.yaml, *.yml or *.json file"),
        ({"manifest": "kind: Pod\n  x: 1\n"}, "manifests/pod.yaml:2: "),
        ({"manifest": "kind: Pod\n"}, "manifests: document 1: apiVersion and kind are required"),
        ({"manifest": POD.replace("kind: Pod", "kind: Pdo")}, "did you mean Pod?"),
        (
            {"manifest": POD.replace("{name: a}", "{name: a, namespace: b}")},
            "manifests: pod/a: metadata.namespace: leave it out",
        ),
        (
            {"manifest": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"},
            "namespace/a: a scenario can only have namespaced objects",
        ),
        ({"checks": None}, "checks.py: No such file or directory; it holds"),
        ({"checks": "def f(:\n"}, "checks.py:1: invalid syntax"),
        ({"checks": "import os\n\nos.nosuch\n"}, "checks.py:3: AttributeError: "),
        ({"checks": "import nosuchmodule\n"}, "checks.py:1: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ({"checks": "open('/nosuch')\n"}, "checks.py:1: [Errno 2] No such file or directory: '/nosuch'"),
        ({"checks": "def f(ctx): ...\n"}, "checks.py: has no function with @check(...)"),
        ({"text": None}, "README.md: No such file or directory; it explains"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(
    tmp_path: Path, changes: dict[str, str | None], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(make(tmp_path / "mine", **changes))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "mine") in str(caught.value)


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nosuch: not a folder"):
        load(tmp_path / "nosuch")


@pytest.mark.parametrize(
    ("wanted", "lacking"),
    [
        ({}, ""),
        ({"nodes": 2, "networks": ["vxlan", "routed"], "proxies": ["nftables"], "families": ["IPv4"]}, ""),
        ({"nodes": 3}, "3 nodes, not 2"),
        ({"networks": ["bridge", "vxlan"]}, "network bridge or vxlan, not routed"),
        ({"proxies": ["iptables"]}, "proxy iptables, not nftables"),
        ({"families": ["IPv6"]}, "family IPv6, not IPv4"),
    ],
)
def test_what_a_lab_lacks_for_a_lesson_is_said(wanted: dict[str, object], lacking: str) -> None:
    header = Header(name="a", title="A", traffic="pod-to-pod", **wanted)  # type: ignore[arg-type]
    spec = LabSpec(nodes=2, network="routed", proxy="nftables", families=["IPv4", "IPv6"])
    assert header.lacking(spec, "IPv4") == lacking


def test_the_shipped_scenarios_cover_the_four_kinds_of_traffic() -> None:
    scenarios = shipped()
    assert [s.name for s in scenarios] == sorted(p.name for p in scenarios_dir().iterdir() if p.is_dir())
    kinds = {"intra-pod", "pod-to-pod", "pod-to-service", "external-to-service"}
    assert {scenario.header.traffic for scenario in scenarios} == kinds
    for scenario in scenarios:
        assert scenario.folder.name == scenario.name
        assert scenario.text.startswith(f"# {scenario.header.title}\n"), scenario.name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("02-pod-to-pdo", "did you mean 02-pod-to-pod"),
        ("readines", "did you mean 04-readiness"),
        ("x" * 300, "`netlab scenario list`"),
        ("zzz", "`netlab scenario list` shows them"),
    ],
)
def test_an_unknown_name_is_told_with_near_ones(name: str, says: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        find([name])
    assert says in str(caught.value)


def test_names_and_folders_are_found_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert [s.name for s in find(["04-readiness", "./mine", "mine", "04-readiness"])] == ["04-readiness", "mine"]
    assert [s.name for s in find(["all"])] == [s.name for s in shipped()]
