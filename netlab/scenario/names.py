"""The owners of addresses, to show the addresses in a capture as names."""

from __future__ import annotations

from netlab.api.blocking import BlockingClient
from netlab.api.cluster import read
from netlab.lab.names import Names
from netlab.lab.spec import LabSpec


def names_of(client: BlockingClient, spec: LabSpec, namespace: str) -> dict[str, str]:
    """The names of the machines, and of a Namespace's pods and Services, by their current addresses."""
    names = Names(read(client, namespace=namespace), spec.outside_addresses)
    return {address: name.removeprefix(f"{namespace}/") for address, name in names.known().items()}
