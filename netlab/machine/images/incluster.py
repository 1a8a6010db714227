"""agnhost inclusterclient: asks the API server for /healthz again and again, with the pod's token as it is then."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATIENCE = 30.0
"""Seconds for one answer."""


def run(seconds: int, env: Mapping[str, str]) -> int:
    """Ask every so many seconds, for ever. Tells tokens apart by a hash, as tests of their rotation look for."""
    _say("started")
    try:
        host, port = env["KUBERNETES_SERVICE_HOST"], int(env["KUBERNETES_SERVICE_PORT"])
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    except (KeyError, ValueError, OSError) as error:
        _say(f"err: unable to load in-cluster configuration: {error}")
        return 1
    while True:
        time.sleep(seconds)
        _say("calling /healthz")
        connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
        try:
            authorization = f"Bearer {(ACCOUNT / 'token').read_text(encoding='ascii').strip()}"
            digest = hashlib.sha256(f"salt|{authorization}".encode()).digest()
            _say(f"authz_header={base64.urlsafe_b64encode(digest).decode().rstrip('=')}")
            connection.request("GET", "/healthz", headers={"Authorization": authorization})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            if answer.status != http.client.OK:
                raise OSError(f"{answer.status} {text}")
        except (OSError, http.client.HTTPException) as error:
            _say("status=failed")
            _say(f"error checking /healthz: {error}")
        finally:
            connection.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
