"""The CNI specification's error object, for plugins and runtimes."""

from __future__ import annotations

from netlab.errors import NetlabError

# Codes from SPEC.md, section 5; 100 and above are the plugin's own.
INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50  # STATUS: cannot serve an ADD
LIMITED_CONNECTIVITY = 51  # STATUS: and running containers may lack connectivity
INTERNAL = 100  # a bug in the plugin
KERNEL_REFUSED = 101
ADDRESSES_EXHAUSTED = 102
ALREADY_RESERVED = 103
CHECK_FAILED = 104
DELEGATE_FAILED = 105
GARBAGE_LEFT = 106


class CniError(NetlabError):
    """A plugin's failure: `code` from the specification, a one-line `msg`, `details`, and the `plugin` that failed.

    `plugin` is empty on the plugin's own side.
    """

    def __init__(self, code: int, msg: str, details: str = "", plugin: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details
        self.plugin = plugin

    def __str__(self) -> str:
        details = f" ({self.details})" if self.details else ""
        if self.plugin:
            return f"CNI plugin {self.plugin}: {self.msg}{details} [code {self.code}]"
        return f"{self.msg}{details}"


def invalid_config(msg: str) -> CniError:
    """The error for a configuration that makes no sense: `msg` begins with the key."""
    return CniError(INVALID_CONFIG, msg)


def broken(what: str, how: str) -> CniError:
    """The answer of a CHECK: the object, and what is wrong with it."""
    return CniError(CHECK_FAILED, f"{what}: {how}")
