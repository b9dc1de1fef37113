"""A request of a peer in, the reply's bytes out.

Knows the order of things: the step, then its keeping, then the answer.  Nothing that a request
holds raises anything but ProtocolError; what nobody thought of is logged, without its message,
which might hold what nobody should read.
"""

import logging

from ccfs.errors import redaction
from ccfs.kcm import wire
from ccfs.kcm.client_view import Host, View
from ccfs.kcm.codes import UNKEPT, UNSUPPORTED, Code, code_of
from ccfs.kcm.opcodes import OPERATIONS, Operation
from ccfs.kcm.request_progress import InFlight
from ccfs.takeover.handover import Handover

log = logging.getLogger(__name__)

UNKNOWN = "kcm_unknown"
"""What opcodes without a row are counted as."""

_REFUSALS = {code: wire.reply(code) for code in Code}
_BY_HEAD = {wire.head(opcode): operation for opcode, operation in OPERATIONS.items()}
TOO_LARGE = _REFUSALS[Code.CC_NOMEM]
"""The reply to a request that was passed over, and in place of one there is no room for."""


class Service:
    """KCM over one user's ccaches, for that user (and for root, where root may).

    `inflight`: the request that is being answered; at first what the daemon before has left.
    """

    def __init__(
        self, host: Host, owner: int, *, root: bool = False, handover: Handover | None = None
    ) -> None:
        self._host = host
        self.inflight = InFlight(handover)
        self.inflight.look(host.has_made)
        self._owner = owner
        self._root = root
        counted = [operation.name for operation in OPERATIONS.values()]
        host.requests.update(dict.fromkeys([*counted, UNKNOWN], 0))

    def peer(self, uid: int, pid: int) -> "Peer | None":
        """Whoever asks, by the kernel's word; None for one who has nothing to ask here."""
        if uid != self._owner and not (self._root and uid == 0):
            return None
        return Peer(self._host, View(self._host, self._owner, uid, pid), self.inflight)


class Peer:
    """One connection's requests."""

    __slots__ = ("_host", "_inflight", "_memo", "_requests", "_view")

    def __init__(self, host: Host, view: View, inflight: InFlight) -> None:
        self._host = host
        self._inflight = inflight
        self._memo = host.store.reply_cache
        self._requests = host.requests
        self._view = view

    def answer(self, request: bytes) -> bytes:
        """The reply to a request (from its version on).  Raises ProtocolError.

        A change is kept, and known to all who have to know, before there is a reply.
        """
        operation = _BY_HEAD.get(request[: wire.HEAD])
        if operation is None:
            return self._unknown(request)
        self._requests[operation.name] += 1
        made = self._memo.find(request) if operation.repeats else None
        return made or self._perform(operation, request)

    def _unknown(self, request: bytes) -> bytes:
        """The reply to an opcode without a row; ProtocolError for no opcode at all."""
        wire.check_version(request)
        self._requests[UNKNOWN] += 1
        return _REFUSALS[UNSUPPORTED]

    def _perform(self, operation: Operation, request: bytes) -> bytes:
        try:
            payload = operation.handle(self._view, request, wire.HEAD)
        except Exception as error:
            return _REFUSALS[self._refused(error, operation)]
        if operation.changes and not self._settle(Code.OK):
            return _REFUSALS[UNKEPT]
        reply = wire.reply(0, payload)
        if operation.repeats:
            self._memo.keep(request, reply)
        return reply

    def _refused(self, error: Exception, operation: Operation) -> Code:
        """The code for a refusal; what a step did before it was refused is settled."""
        self._host.refuse(error)
        code = code_of(error)
        if code is None:
            log.error("%s failed: %s", operation.name, redaction.describe(error))
            code = UNKEPT
        return code if not operation.changes or self._settle(code) else UNKEPT

    def _settle(self, code: Code) -> bool:
        """Whether all that was done is kept, and may be answered with `code`."""
        host, inflight = self._host, self._inflight
        host.store.mark_changed_outside_fuse()
        inflight.status = code
        try:
            host.settle(note=inflight.note_step)
        except Exception as error:
            log.error("settle failed: %s", redaction.describe(error))
            return False
        inflight.keep()
        return True
