# SPDX-License-Identifier: MIT
"""The numbers of CCAPI v3 under the names of its header, and the one error class.

Knows numbers and names, never a mount.
"""
# ruff: noqa: N816 - these are the header's names

from typing import Final

__all__ = [
    "CCAPIError",
    "ccErrBadAPIVersion",
    "ccErrBadCredentialsVersion",
    "ccErrBadInternalMessage",
    "ccErrBadLockType",
    "ccErrBadName",
    "ccErrBadParam",
    "ccErrCCacheLocked",
    "ccErrCCacheNotFound",
    "ccErrCCacheUnlocked",
    "ccErrClientNotFound",
    "ccErrContextLocked",
    "ccErrContextNotFound",
    "ccErrContextUnlocked",
    "ccErrCredentialsNotFound",
    "ccErrInvalidCCache",
    "ccErrInvalidCCacheIterator",
    "ccErrInvalidContext",
    "ccErrInvalidCredentials",
    "ccErrInvalidCredentialsIterator",
    "ccErrInvalidLock",
    "ccErrInvalidString",
    "ccErrNeverDefault",
    "ccErrNoMem",
    "ccErrNotImplemented",
    "ccErrServerCantBecomeUID",
    "ccErrServerInsecure",
    "ccErrServerUnavailable",
    "ccErrTimeOffsetNotSet",
    "ccIteratorEnd",
    "ccNoError",
    "cc_credentials_v5",
    "cc_lock_block",
    "cc_lock_downgrade",
    "cc_lock_noblock",
    "cc_lock_read",
    "cc_lock_upgrade",
    "cc_lock_write",
    "ccapi_version_2",
    "ccapi_version_3",
    "ccapi_version_4",
    "ccapi_version_5",
    "ccapi_version_6",
    "ccapi_version_7",
    "ccapi_version_max",
]

ccapi_version_2: Final = 2
ccapi_version_3: Final = 3
ccapi_version_4: Final = 4
ccapi_version_5: Final = 5
ccapi_version_6: Final = 6
ccapi_version_7: Final = 7
ccapi_version_max: Final = 7

ccNoError: Final = 0
ccIteratorEnd: Final = 201
ccErrBadParam: Final = 202
ccErrNoMem: Final = 203
ccErrInvalidContext: Final = 204
ccErrInvalidCCache: Final = 205
ccErrInvalidString: Final = 206
ccErrInvalidCredentials: Final = 207
ccErrInvalidCCacheIterator: Final = 208
ccErrInvalidCredentialsIterator: Final = 209
ccErrInvalidLock: Final = 210
ccErrBadName: Final = 211
ccErrBadCredentialsVersion: Final = 212
ccErrBadAPIVersion: Final = 213
ccErrContextLocked: Final = 214
ccErrContextUnlocked: Final = 215
ccErrCCacheLocked: Final = 216
ccErrCCacheUnlocked: Final = 217
ccErrBadLockType: Final = 218
ccErrNeverDefault: Final = 219
ccErrCredentialsNotFound: Final = 220
ccErrCCacheNotFound: Final = 221
ccErrContextNotFound: Final = 222
ccErrServerUnavailable: Final = 223
ccErrServerInsecure: Final = 224
ccErrServerCantBecomeUID: Final = 225
ccErrTimeOffsetNotSet: Final = 226
ccErrBadInternalMessage: Final = 227
ccErrNotImplemented: Final = 228
ccErrClientNotFound: Final = 229

cc_credentials_v5: Final = 2

cc_lock_read: Final = 0
cc_lock_write: Final = 1
cc_lock_upgrade: Final = 2
cc_lock_downgrade: Final = 3
cc_lock_noblock: Final = 0
cc_lock_block: Final = 1

_NAMES = {
    value: name
    for name, value in list(globals().items())
    if name.startswith(("ccErr", "ccNo", "ccIterator"))
}


class CCAPIError(Exception):
    """A call that failed: `code` and `name` are those of the header.

    Its text is these two and nothing else: no key and no ticket is in an error.
    """

    def __init__(self, code: int, name: str = "") -> None:
        self.code = code
        self.name = name or _NAMES.get(code, "unknown")
        super().__init__(f"{self.name} ({code})")
