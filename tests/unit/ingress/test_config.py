"""A routing table in HAProxy's files: what the maps say of requests, beside what the API says."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from netlab.api.networking_types import Ingress
from netlab.ingress.haproxy import config, slots
from netlab.ingress.haproxy.config import Settings
from netlab.ingress.rules import plan
from tests.unit.ingress.objects import answer_of, backend, ingress, objects, pair, rule, secret, service

SERVICES = [f"s{number}" for number in range(6)]
_HOSTS = st.sampled_from(["", "a.test", "b.a.test", "*.test", "*.a.test", "*.b.a.test"])
_PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda names: "/" + "/".join(names))
_SERVICE = st.sampled_from(SERVICES)
_RULES = st.builds(
    lambda host, paths: rule(host, *paths),
    _HOSTS,
    st.lists(
        st.tuples(
            st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"]),
            st.builds(lambda path, end: path + end if path != "/" else path, _PATHS, st.sampled_from(["", "/"])),
            _SERVICE,
        ),
        min_size=1,
        max_size=4,
    ),
)


@st.composite
def _some(draw: st.DrawFn) -> list[Ingress]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        spec: dict[str, Any] = {"rules": draw(st.lists(_RULES, max_size=3))}
        if not spec["rules"] or draw(st.booleans()):
            spec["defaultBackend"] = backend(draw(_SERVICE))
        made.append(ingress(f"i{number}", created=draw(st.integers(0, 3)), **spec))
    return made


INGRESSES = _some()
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["a.test", "b.a.test", "c.b.a.test", "test", "x.test", "other"]),
        st.builds(lambda path, end: path + end, _PATHS, st.sampled_from(["", "/", "//", "/x"])),
    ),
    min_size=1,
    max_size=10,
)


def looked_up(files: dict[str, str], host: str, path: str) -> str:
    """The backend that HAProxy finds in the maps: `map_str` for whole texts, `map_beg` for the longest beginning."""
    maps = {
        name: dict(line.split(" ") for line in text.splitlines()) for name, text in files.items() if name[-4:] == ".map"
    }
    parent = f".{host.partition('.')[2]}" if "." in host else ""
    group = maps["hosts.map"].get(host) or maps["parents.map"].get(parent) or "g0"
    if found := maps["paths.map"].get(group + path):
        return found
    begins = [key for key in maps["prefixes.map"] if f"{group}{path}/".startswith(key)]
    return maps["prefixes.map"][max(begins, key=len)] if begins else ""


@given(INGRESSES, REQUESTS)
def test_the_maps_say_what_the_api_says(ingresses: list[Ingress], requests: list[tuple[str, str]]) -> None:
    table = plan(objects(*ingresses, services=map(service, SERVICES))).table
    servers = {port: slots.fresh(()) for port in config.destinations(table)}
    files = config.files(table, servers, Settings("x"), 1)
    for host, path in requests:
        wanted = answer_of(ingresses, host, path)
        assert looked_up(files, host, path) == (f"default:{wanted}:80" if wanted else "")


_ANYTHING = st.text(max_size=12)


@given(_ANYTHING, _ANYTHING, _ANYTHING)
def test_nothing_that_a_manifest_says_becomes_a_line_of_its_own(host: str, path: str, name: str) -> None:
    good = rule("a.test", ("Prefix", "/", "s0"))
    bad = rule(host, ("Prefix", f"/{path}", "s0"), ("Exact", f"/{path}", name))
    secrets, services = [secret("s", *pair("a.test"))], [service("s0"), service(name)]

    def written(rules: list[Any], hosts: list[str]) -> dict[str, str]:
        one = ingress("i", rules=rules, tls=[{"secretName": "s", "hosts": hosts}])
        table = plan(objects(one, services=services, secrets=secrets)).table
        return config.files(table, {port: slots.fresh(()) for port in config.destinations(table)}, Settings("x"), 1)

    files, plain = written([good, bad], [host, "a.test"]), written([good], ["a.test"])
    known = plain["haproxy.cfg"].splitlines()
    for line in files["haproxy.cfg"].splitlines():
        assert line in known or re.fullmatch(r"backend default:[a-z0-9-]+:80", line, re.ASCII)
    for name_of_file, text in files.items():
        if name_of_file.endswith(".map"):
            assert all(
                len(line.split(" ")) == 2 and line.isascii() and line.isprintable() for line in text.splitlines()
            )
            assert "\r" not in text
    assert len(files["certificates.list"].splitlines()) == 1
