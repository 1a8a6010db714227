"""Chains as the text of iptables-restore and iptables-save. Pure."""

from __future__ import annotations

from netlab.proxy.iptables.fixed import Chains, Tables

COMMIT = "COMMIT"
"""Ends a table's lines: one batch for the kernel."""

PART = 200
"""Lines that a socket's ordinary buffer (212,992 bytes) has room for, at less than a kilobyte each.

iptables-nft sends its input as one message. Only the machine's root may use a larger buffer (SO_SNDBUFFORCE).
"""


def render(old: Tables, new: Tables) -> str:
    """The input of `iptables-restore --noflush` that leads from `old` to `new`; empty if they are the same.

    It contains only chains whose rules changed. Chains that are gone are deleted in the same commit.
    """
    lines = []
    for table, chains in new.items():
        before = old.get(table, {})
        changed = [name for name, rules in chains.items() if before.get(name) != rules]
        gone = before.keys() - chains.keys()
        if not changed and not gone:
            continue
        # Declaring a chain empties it, or makes it.
        lines += [f"*{table}", *(f":{name} - [0:0]" for name in (*changed, *sorted(gone)))]
        lines += [f"-A {name} {rule}" for name in changed for rule in chains[name]]
        lines += [f"-X {name}" for name in sorted(gone)]
        lines.append(COMMIT)
    return "\n".join(lines) + "\n" if lines else ""


def render_parts(old: Tables, new: Tables) -> list[str]:
    """The output of `render` in parts of at most PART lines, for a kernel that refuses the whole.

    No rule leads to a chain that is not complete yet, and deletions come last; only a chain that is itself larger than
    a part briefly lacks its last rules.
    """
    parts = []
    for table, chains in new.items():
        before = old.get(table, {})
        changed = [name for name in _leaves_first(chains) if before.get(name) != chains[name]]
        gone = sorted(before.keys() - chains.keys())
        lines: list[list[str]] = [
            [f":{name} - [0:0]", *(f"-A {name} {rule}" for rule in chains[name])] for name in changed
        ]
        # All are emptied before any is deleted: they may lead to each other.
        lines += [[f":{name} - [0:0]"] for name in gone]
        lines += [[f"-X {name}"] for name in gone]
        part: list[str] = []
        for chain in lines:
            if part and len(part) + len(chain) > PART:
                parts.append((table, part))
                part = []
            part = [*part, *chain]
        parts.append((table, part))
    return [
        "\n".join([f"*{table}", *part[start : start + PART], COMMIT, ""])
        for table, part in parts
        for start in range(0, len(part), PART)
    ]


def _leaves_first(chains: Chains) -> list[str]:
    """The chains, each one after those that its rules lead to."""
    placed: dict[str, None] = {}

    def place(name: str) -> None:
        if name in placed or name not in chains:
            return
        for rule in chains[name]:
            place(rule.rpartition("-j ")[2].partition(" ")[0])
        placed[name] = None

    for name in chains:
        place(name)
    return list(placed)


def parse(saved: str) -> Tables:
    """The chains that iptables-save lists, built-in ones too; rules are in the kernel's spelling, not in ours."""
    found: Tables = {}
    chains: Chains = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = found.setdefault(line[1:], {})
        elif line.startswith(":"):
            chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            chains[name].append(rule)
    return found
