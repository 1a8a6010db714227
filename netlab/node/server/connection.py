"""A client's connection to a kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netlab.api.server import identity
from netlab.api.server.access.authentication import set_caller
from netlab.api.server.identity import ANONYMOUS
from netlab.api.serving.upgrading import UpgradingProtocol


class Connection(UpgradingProtocol):
    """Knows its client by the certificate."""

    _user = ANONYMOUS
    ended: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has finished TLS's handshake."""
        super().connection_made(transport)
        self._user = identity.of_certificate(transport.get_extra_info("ssl_object")) or ANONYMOUS

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self.ended is not None:
            self.ended()
            self.ended = None
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        set_caller(self.scope, self._user)
