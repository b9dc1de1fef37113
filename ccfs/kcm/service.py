# SPDX-License-Identifier: MIT
"""Answers KCM requests: bytes of a request in, bytes of a reply out.

Knows the order: the step, its commit, the reply.  A request raises nothing but ProtocolError.  Any
exception that is no refusal is logged without its message, which might contain secrets.
"""

import logging

from ccfs.errors import redaction
from ccfs.kcm import wire
from ccfs.kcm.client_view import ClientView
from ccfs.kcm.codes import FAILED, UNSUPPORTED, Code, code_of
from ccfs.kcm.opcodes import OPERATIONS, Operation
from ccfs.kcm.reply_cache import ReplyCache
from ccfs.kcm.request_progress import RequestProgress
from ccfs.service.commit import Committer
from ccfs.service.info import Owner
from ccfs.store.effects import Effects

log = logging.getLogger(__name__)

UNKNOWN = "kcm_unknown"
"""What `stats` counts requests by whose opcode has no row."""

_STATUS_REPLIES = {code: wire.reply(code) for code in Code}
_BY_HEAD = {wire.head(opcode): operation for opcode, operation in OPERATIONS.items()}
TOO_LARGE = _STATUS_REPLIES[Code.CC_NOMEM]
"""The reply to a request that was skipped, and in place of a reply that there is no memory for."""


class KcmService:
    """KCM over one user's ccaches.

    `progress`: of the request that is being answered; at first of the last daemon's.
    """

    def __init__(self, committer: Committer, owner: Owner) -> None:
        self._committer = committer
        self._owner = owner
        self.progress = RequestProgress(committer.handover)
        self.progress.look_up_step(committer.has_made)
        self.replies = ReplyCache()
        committer.subscribe(self._clear_replies)
        counted = [operation.name for operation in OPERATIONS.values()]
        committer.requests.update(dict.fromkeys([*counted, UNKNOWN], 0))

    def _clear_replies(self, _: Effects) -> None:
        self.replies.clear()

    def responder(self, uid: int, pid: int) -> "Responder | None":
        """Return what answers a client with these peer credentials; None where it has no access."""
        if not self._owner.admits(uid):
            return None
        view = ClientView(self._committer, self._owner.uid, uid, pid)
        return Responder(self._committer, view, self.progress, self.replies)


class Responder:
    """Answers the requests of one connection."""

    __slots__ = ("_committer", "_progress", "_replies", "_requests", "_view")

    def __init__(
        self,
        committer: Committer,
        view: ClientView,
        progress: RequestProgress,
        replies: ReplyCache,
    ) -> None:
        self._committer = committer
        self._progress = progress
        self._replies = replies
        self._requests = committer.requests
        self._view = view

    def answer(self, request: bytes) -> bytes:
        """Return the reply to a request (from its version on).  Raises ProtocolError.

        A change is in the journal and published before this returns.
        """
        operation = _BY_HEAD.get(request[: wire.HEAD])
        if operation is None:
            return self._unknown(request)
        self._requests[operation.name] += 1
        cached = self._replies.find(request) if operation.cacheable else None
        return cached or self._perform(operation, request)

    def _unknown(self, request: bytes) -> bytes:
        """Reply to an opcode without a row; ProtocolError for another version of the protocol."""
        wire.check_version(request)
        self._requests[UNKNOWN] += 1
        return _STATUS_REPLIES[UNSUPPORTED]

    def _perform(self, operation: Operation, request: bytes) -> bytes:
        try:
            payload = operation.handle(self._view, request, wire.HEAD)
        except Exception as error:
            return _STATUS_REPLIES[self._refused(error, operation)]
        if operation.changes and not self._commit(Code.OK):
            return _STATUS_REPLIES[FAILED]
        reply = wire.reply(0, payload)
        if operation.cacheable:
            self._replies.add(request, reply)
        return reply

    def _refused(self, error: Exception, operation: Operation) -> Code:
        """Return the code of a refusal; commit what the step did before it was refused."""
        self._committer.log_refusal(error)
        code = code_of(error)
        if code is None:
            log.error("%s failed: %s", operation.name, redaction.describe(error))
            code = FAILED
        return code if not operation.changes or self._commit(code) else FAILED

    def _commit(self, code: Code) -> bool:
        """Commit; returns whether the request may be answered with `code`."""
        committer, progress = self._committer, self._progress
        committer.store.mark_changed_outside_fuse()
        progress.status = code
        try:
            committer.commit(mark_step=progress.mark_step)
        except Exception as error:
            log.error("commit failed: %s", redaction.describe(error))
            return False
        progress.confirm_step()
        return True
