"""GC of the main plugin: host ends and elements of attachments that are no longer valid."""

from __future__ import annotations

import errno

from netlab.cni.plugins.delegate import Delegate
from netlab.cni.plugins.main import masquerade, spoofing
from netlab.cni.spec import errors
from netlab.cni.spec.errors import CniError
from netlab.net.nftables.socket import Nfnetlink
from netlab.net.route import links
from netlab.net.route.socket import Rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab.cni.plugins.request import Request


def collect_garbage(request: Request) -> None:
    """Remove host ends and elements of this network's invalid attachments; forward the GC to the IPAM plugin.

    The alias of a link and the comment of an element say whose they are; names say nothing. Goes on after failures, and
    raises all of them as one `CniError` (SPEC.md, section 2, GC).
    """
    stale = request.is_garbage()
    failures: list[str] = []

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except (CniError, OSError) as error:
            failures.append(str(error))

    def clear_tables() -> None:
        # Regardless of the configuration, which may have masqueraded before and not now.
        with Nfnetlink() as kernel:
            attempt(lambda: spoofing.TABLE.remove(kernel, stale))
            attempt(lambda: masquerade.TABLE.remove(kernel, stale))

    attempt(lambda: _delete_links(stale, attempt))
    attempt(clear_tables)
    attempt(lambda: Delegate(request).collect_garbage())
    if failures:
        raise CniError(errors.GARBAGE_LEFT, f"network {request.network}: garbage remains: {'; '.join(failures)}")


def _delete_links(stale: Callable[[str], bool], attempt: Callable[[Callable[[], object]], None]) -> None:
    with Rtnetlink() as kernel:
        for link in kernel.links():
            if link.kind == "veth" and stale(link.alias):
                deletion = links.deletion(link.name)
                attempt(lambda deletion=deletion: kernel.send(deletion, tolerate=errno.ENODEV))  # type: ignore[misc]
