"""Brings the images of a pod's containers, by their imagePullPolicy, where the runtime can (pkg/kubelet/images)."""

from __future__ import annotations

import asyncio
import json
import time

from netlab.api import events
from netlab.api.core_types import Container
from netlab.node.context import PodContext
from netlab.node.runtime.service import ImageNotPresentError, ImageService


async def ensure(context: PodContext, images: ImageService, spec: Container) -> None:
    """Have a container's image there, as its policy says.

    Raises `ImageNotPresentError` if it cannot be brought, or the pod is deleted meanwhile.
    """
    found = await images.image_status(spec.image, spec.command)
    if found is not None and (found.built_in or spec.imagePullPolicy != "Always"):
        return
    if spec.imagePullPolicy == "Never":
        raise ImageNotPresentError("it is neither built in nor in the Docker engine")
    image = json.dumps(spec.image)
    context.event("Pulling", f"Pulling image {image}", events.NORMAL)
    began = time.monotonic()
    await _unless_deleted(context, asyncio.ensure_future(images.pull_image(spec.image)))
    took = time.monotonic() - began
    context.event("Pulled", f"Successfully pulled image {image} in {took:.3f}s", events.NORMAL)


async def _unless_deleted(context: PodContext, pulling: asyncio.Future[None]) -> None:
    """Wait for a pull, which may take minutes, but no longer than its pod is wanted."""
    while not (context.state.gone or context.pod.metadata.deletionTimestamp is not None):
        context.wake.clear()
        woken = asyncio.ensure_future(context.wake.wait())
        try:
            await asyncio.wait((pulling, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        if pulling.done():
            return pulling.result()
    pulling.cancel()
    raise ImageNotPresentError("the pod was deleted before it was there")
