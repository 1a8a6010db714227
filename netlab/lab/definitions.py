"""The CustomResourceDefinitions that every lab has: of what its nodes act upon, and no API server has of itself."""

from __future__ import annotations

from netlab.api.blocking import BlockingClient
from netlab.api.errors import ApiError
from netlab.api.resources import CUSTOMRESOURCEDEFINITIONS
from netlab.policy.cluster_types import definition


def ensure(client: BlockingClient) -> None:
    """Make what there is not of them; one that is there, and may be of another version, stays. Raises `ApiError`."""
    try:
        client.request("POST", CUSTOMRESOURCEDEFINITIONS.path(), definition())
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
