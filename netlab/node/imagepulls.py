"""Brings the images of a pod's containers, by their imagePullPolicy, where the runtime can (pkg/kubelet/images)."""

from __future__ import annotations

import asyncio
import json
import time

from netlab.api import events
from netlab.api.core_types import Container
from netlab.node import wording
from netlab.node.context import PodContext
from netlab.node.runtime.service import ImageNotPresentError, ImageService, ImageStatus


async def ensure(context: PodContext, spec: Container) -> ImageStatus:
    """Have a container's image there, as its policy says.

    Raises `ImageNotPresentError` if it cannot be brought, or the pod is deleted meanwhile.
    """
    runtime = context.node.runtime
    try:
        found = await runtime.image_status(spec.image, spec.command)
    except ImageNotPresentError:
        if runtime.images is None or spec.imagePullPolicy == "Never":
            raise
    else:
        if runtime.images is None or found.built_in or spec.imagePullPolicy != "Always":
            what = f"Container image {json.dumps(spec.image)} already present on machine and can be accessed by the pod"
            context.event("Pulled", what, events.NORMAL, container=spec.name)
            return found
    await _pull(context, runtime.images, spec)
    return await runtime.image_status(spec.image, spec.command)


async def _pull(context: PodContext, images: ImageService, spec: Container) -> None:
    image = json.dumps(spec.image)
    context.event("Pulling", f"Pulling image {image}", events.NORMAL, container=spec.name)
    began = time.monotonic()
    await _unless_deleted(context, asyncio.ensure_future(images.pull_image(spec.image)))
    took = wording.duration(time.monotonic() - began)
    what = f"Successfully pulled image {image} in {took} ({took} including waiting)"
    context.event("Pulled", what, events.NORMAL, container=spec.name)


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
