# SPDX-License-Identifier: MIT
"""How far the present KCM request has come, in memory that the next daemon reads.

A request stays in its socket until its reply is sent, so none is lost with a daemon; these words of
the handover page make sure that none is carried out twice.  There is one request at a time.

    word 0   the socket's cookie; 0: there is no request
    1        size of the request; in the upper half that of the reply, 0 before it is sent
    2, 3     the mark of the request's step, its number one higher; word 3 is 0 for no step
    4        the status of the reply to a request that makes a step; its payload is empty
    5        the cookie of the connection whose request one daemon has died on already
    8, 16    two struct mmsghdr: bytes sent of the reply, bytes removed of the request

The kernel itself counts in these mmsghdr (sendmmsg(2), recvmmsg(2)).  The order of steps, and what
the next daemon does where a daemon was killed after one of them:

    begin    execute, `mark_step`, commit   nothing was sent: the request is answered again, unless
                                            its step is in the journal; then the reply is its status
    answer   send                           part was sent: the connection is closed; all: it goes on
             remove the request             the next daemon removes it if it is in the socket still
    end

A request that has made a step is removed before `send`, since it is not needed again.

Knows words, and sockets by their descriptors; never what a request asks.
"""

import socket
from collections.abc import Callable
from struct import Struct

from ccfs.kcm import wire
from ccfs.linux.message_counts import Counted
from ccfs.takeover.handover import KCM, Handover, words_of

SOCKET, SIZES, NAME, STEP, STATUS, DIED_ON = range(KCM, KCM + 6)
SENT, REMOVED = KCM + 8, KCM + 16
MAX_IN_SOCKET = 4 + wire.SMALL
"""Bytes of the largest request that stays in its socket while it is answered."""

_SO_COOKIE = 57
_COOKIE = Struct("Q")
_HALF = 32
_LOW = (1 << _HALF) - 1
_MADE = (1 << 64) - 1
"""In place of a journal's name: the step is in the journal."""


def cookie(connection: socket.socket) -> int:
    """Return SO_COOKIE, the kernel's unique number of a socket, the same in every process."""
    return int(_COOKIE.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0])


class RequestProgress:
    """The words, and the two system calls that count there.

    `status`: of the reply for the next step that is marked.
    """

    def __init__(self, handover: Handover | None = None) -> None:
        self._words = words_of(handover)
        self._send = Counted(self._words, SENT * 8)
        self._remove = Counted(self._words, REMOVED * 8, MAX_IN_SOCKET)
        self._sent, self._removed = self._send.count, self._remove.count
        self._marked, self._confirmed = True, False
        self.status = 0

    def begin(self, cookie: int, size: int) -> None:
        """Begin to carry out a request of `size` bytes."""
        words = self._words
        if self._marked:
            self._marked = self._confirmed = False
            words[STEP] = 0
        words[SIZES] = size
        words[SOCKET] = cookie

    def mark_step(self, name: int, step: int) -> None:
        """Mark the step that is about to be committed; of several the last one counts."""
        words = self._words
        self._marked = True
        words[STEP] = 0
        words[STATUS], words[NAME] = self.status & _LOW, name
        words[STEP] = step + 1

    def confirm_step(self) -> None:
        """The step that was marked, if any, is in the journal: the reply will not change."""
        self._confirmed = self._marked

    def answer(self, descriptor: int, reply: bytes) -> int:
        """Send a reply, or its beginning; returns how many bytes the kernel accepted.

        Where it accepted all, the request is removed from its socket and ended; otherwise the
        caller does both.  Raises OSError.  A request whose step is confirmed is removed before the
        reply is sent: the kernel runs the client on our core as soon as that wakes it.
        """
        words, size = self._words, len(reply)
        self._sent[0] = self._removed[0] = 0
        request_size = words[SIZES]  # the upper half is 0
        words[SIZES] = request_size | size << _HALF
        if self._confirmed:
            self._remove.take_out(descriptor, request_size)
        sent = self._send.send(descriptor, reply)
        if sent == size:
            if not self._confirmed:
                self._remove.take_out(descriptor, request_size)
            words[SOCKET] = 0
        return sent

    def remove(self, descriptor: int) -> None:
        """Remove the request from its socket, unless that was done.  Raises OSError."""
        if not self._removed[0]:
            self._remove.take_out(descriptor, self._words[SIZES] & _LOW)

    def end(self) -> None:
        """End the request."""
        self._words[SOCKET] = 0

    # What the last daemon has left.

    @property
    def cookie(self) -> int:
        """The cookie of the socket whose request was not ended; 0 for none."""
        return self._words[SOCKET]

    def look_up_step(self, has_made: Callable[[int, int], bool]) -> None:
        """Look in the journal for the marked step, before this daemon makes another of its number.

        The result is stored in the words: this daemon may be killed, too, and the journal may not
        have the mark any more when the next one looks.
        """
        words = self._words
        if not words[STEP] or words[NAME] == _MADE:
            return
        if has_made(words[NAME], words[STEP] - 1):
            words[NAME] = _MADE
        else:
            words[STEP] = 0

    @property
    def reply(self) -> bytes | None:
        """The reply to a request whose step is in the journal; None where there is no such step."""
        if not self._words[STEP]:
            return None
        status = self._words[STATUS]
        return wire.reply(status - (1 << _HALF) if status >> (_HALF - 1) else status)

    @property
    def sent(self) -> int:
        """How many bytes of the reply were sent."""
        return self._sent[0] if self._words[SIZES] >> _HALF else 0

    @property
    def sent_all(self) -> bool:
        """Whether the whole reply was sent."""
        return self.sent == self._words[SIZES] >> _HALF > 0

    def answer_made(self, descriptor: int, reply: bytes) -> None:
        """Reply to a request whose step is in the journal, and remove it from its socket."""
        if not self._words[SIZES] >> _HALF:  # the counts may be those of an earlier request
            self._sent[0] = self._removed[0] = 0
            self._words[SIZES] |= len(reply) << _HALF
        self.remove(descriptor)
        self._send.send(descriptor, reply)

    def start_retry(self) -> bool:
        """Record that a request without a step is tried again; False where it was tried twice."""
        if self._words[DIED_ON] == self.cookie:
            return False
        self._words[DIED_ON] = self.cookie
        return True

    def end_retry(self) -> None:
        """This daemon has survived the second try."""
        self._words[DIED_ON] = 0
