"""The request that is being answered, in memory that the next daemon looks at.

A request stays in its socket until its reply is sent, so nothing is lost with a daemon; here it is
noted how far it has come, so that nothing is done twice.  There is one at a time.

    word 0   the socket's cookie; 0: there is no request
    1        size of the request; in the upper half that of the reply, 0 until it is to be sent
    2, 3     the mark of the step that the request makes, its number one higher; 3 is 0 for none
    4        the status of the reply to it, whose payload is empty
    5        the cookie of the connection whose request one daemon has died on already
    8, 16    two struct mmsghdr: how much of the reply was sent, how much of the request taken out

The order, and what the next daemon does where it ends early:

    begin   execute, `note_step`, commit    nothing was sent: the request is answered again, unless
                                            the step was made; then the reply is its status
    answer  send                            part was sent: the connection ends; all: it goes on
            take the request out            not yet: it is taken out; it is before `send` where a
                                            step was made, whose request is not needed again
    end

Knows words, and sockets by their descriptors; never what a request says.
"""

import socket
from collections.abc import Callable
from struct import Struct

from ccfs.kcm import wire
from ccfs.linux.message_counts import Counted
from ccfs.takeover.handover import KCM, Handover, words_of

SOCKET, SIZES, NAME, STEP, STATUS, DIED_ON = range(KCM, KCM + 6)
SENT, TAKEN = KCM + 8, KCM + 16
MOST = 4 + wire.SMALL
"""Bytes of the largest request that is answered from its socket."""

_SO_COOKIE = 57
_COOKIE = Struct("Q")
_HALF = 32
_LOW = (1 << _HALF) - 1
_MADE = (1 << 64) - 1
"""In the place of a log's name: the step was made."""


def cookie(connection: socket.socket) -> int:
    """A number that no other socket has while this kernel runs; every process sees the same."""
    return int(_COOKIE.unpack(connection.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0])


class InFlight:
    """The words, and the two system calls that count there.  `status`: for the next step noted."""

    def __init__(self, handover: Handover | None = None) -> None:
        self._words = words_of(handover)
        self._send = Counted(self._words, SENT * 8)
        self._take = Counted(self._words, TAKEN * 8, MOST)
        self._sent, self._taken = self._send.count, self._take.count
        self._noted, self._certain = True, False
        self.status = 0

    def begin(self, cookie: int, size: int) -> None:
        """A request of `size` bytes is about to be carried out."""
        words = self._words
        if self._noted:
            self._noted = self._certain = False
            words[STEP] = 0
        words[SIZES] = size
        words[SOCKET] = cookie

    def note_step(self, name: int, step: int) -> None:
        """A step is about to be made for it; of several the last is noted."""
        words = self._words
        self._noted = True
        words[STEP] = 0
        words[STATUS], words[NAME] = self.status & _LOW, name
        words[STEP] = step + 1

    def keep(self) -> None:
        """The step was made: the reply is certain."""
        self._certain = self._noted

    def answer(self, descriptor: int, reply: bytes) -> int:
        """Send a reply, or begin to; returns how many bytes the kernel took.

        Where it took all the request is taken out of its socket, and that is all; where not, its
        end is for the caller.  Raises OSError.  A request whose reply is certain goes out first:
        the kernel runs the woken client on our core, and what is done after that waits.
        """
        words, size = self._words, len(reply)
        self._sent[0] = self._taken[0] = 0
        asked = words[SIZES]  # in the upper half there is nothing yet
        words[SIZES] = asked | size << _HALF
        if self._certain:
            self._take.take_out(descriptor, asked)
        sent = self._send.send(descriptor, reply)
        if sent == size:
            if not self._certain:
                self._take.take_out(descriptor, asked)
            words[SOCKET] = 0
        return sent

    def take_out(self, descriptor: int) -> None:
        """Take the request out of its socket, unless it is.  Raises OSError."""
        if not self._taken[0]:
            self._take.take_out(descriptor, self._words[SIZES] & _LOW)

    def end(self) -> None:
        """Nothing more is to be done."""
        self._words[SOCKET] = 0

    # What the daemon before has left.

    @property
    def cookie(self) -> int:
        """Of the socket whose request was not finished; 0 for none."""
        return self._words[SOCKET]

    def look(self, has_made: Callable[[int, int], bool]) -> None:
        """See whether the step was made, before there is another one that has its number.

        It is noted, for this daemon may be killed, too, and what is asked here forgotten by then.
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
        """The reply where the step was made; None: it was not, or there is none."""
        if not self._words[STEP]:
            return None
        status = self._words[STATUS]
        return wire.reply(status - (1 << _HALF) if status >> (_HALF - 1) else status)

    @property
    def sent(self) -> int:
        """How much of the reply was sent."""
        return self._sent[0] if self._words[SIZES] >> _HALF else 0

    @property
    def sent_all(self) -> bool:
        """Whether that was all."""
        return self.sent == self._words[SIZES] >> _HALF > 0

    def answer_made(self, descriptor: int, reply: bytes) -> None:
        """Send the reply to a request whose step was made, and see that it is out of its socket."""
        if not self._words[SIZES] >> _HALF:  # or the counts are another request's
            self._sent[0] = self._taken[0] = 0
            self._words[SIZES] |= len(reply) << _HALF
        self.take_out(descriptor)
        self._send.send(descriptor, reply)

    def try_again(self) -> bool:
        """Whether a request that was not carried out is to be tried once more, which is noted."""
        if self._words[DIED_ON] == self.cookie:
            return False
        self._words[DIED_ON] = self.cookie
        return True

    def has_lived(self) -> None:
        """No daemon has died on the second try."""
        self._words[DIED_ON] = 0
