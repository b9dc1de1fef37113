"""The daemon's end of its control socket: what whoever started it has to ask.

Knows the words of `ccfs.control`, and root at the other end; never FUSE, nor the bytes of a ccache.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from array import array
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message
from ccfs.errors import UserError, redaction
from ccfs.linux.peer_credentials import peer

if TYPE_CHECKING:
    from ccfs.daemon.kcm_endpoint import KcmEndpoint
    from ccfs.daemon.login_import import Importer
    from ccfs.ops.file_system import FileSystem
    from ccfs.store.ccache import Ccache
    from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)

BACKLOG = 64
MOST = 64
"""Connections at a time."""
LINK = b"link"
"""The request for what a successor needs; its reply has the descriptors of a `FuseConnection`."""
_DESCRIPTORS = 4
_ROOM = socket.CMSG_SPACE(_DESCRIPTORS * array("i").itemsize)


class ControlEndpoint:
    """Answers whoever started the daemon.

    `listener` is inherited.  Listening at it again makes the kernel name this process to those who
    connect (SO_PEERCRED), in place of the one that has bound it.  `link`: what the daemon was given
    of its connection, None where no other daemon can take that over.
    """

    def __init__(
        self,
        descriptor: int,
        fs: FileSystem,
        face: KcmEndpoint | None,
        link: FuseConnection | None = None,
    ) -> None:
        self._listener = socket.socket(fileno=descriptor)
        self._listener.listen(BACKLOG)
        self._fs = fs
        self._face = face
        self._link = link
        self._importer: Importer | None = None
        self._seen = -1
        self._ended = False

    @property
    def address(self) -> str | bytes:
        """Where it listens."""
        address: str | bytes = self._listener.getsockname()
        return address

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        self._listener.setblocking(False)
        room = trio.CapacityLimiter(MOST)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(self._listener)
                try:
                    client, _ = self._listener.accept()
                except OSError:  # it has gone already
                    continue
                nursery.start_soon(self._serve, client, room)

    async def _serve(self, client: socket.socket, room: trio.CapacityLimiter) -> None:
        with client:
            client.setblocking(False)
            if peer(client).uid != 0:
                return
            async with room:
                while await self._answer(client):
                    pass
        if self._ended:
            os.kill(os.getpid(), signal.SIGTERM)

    async def _answer(self, client: socket.socket) -> bool:
        """One request; False when there are no more."""
        try:
            await trio.lowlevel.wait_readable(client)
            data, passed = _receive(client)
            if not data:
                return False
            if data == LINK and self._link and _is_a_device(self._link.device):
                socket.send_fds(client, [messages.encode("ok")], self._link.descriptors)
                return True
            reply = await self._reply(data, passed, lambda: not _has_gone(client))
            client.send(reply)
        except OSError:
            return False
        return not reply.startswith(b"error")

    async def _reply(
        self, data: bytes, passed: list[socket.socket], waits: Callable[[], bool]
    ) -> bytes:
        try:
            request = messages.decode(data)
            if request.word == "import":
                return await self._import(request, waits)
            act = _ACTS.get(request.word)
            return await act(self, request, passed) if act else messages.refusal("unknown request")
        except MalformedError as error:
            return messages.refusal(str(error))
        except UserError as error:
            return messages.refusal(error.reason)
        except Exception as error:
            log.error("%s", redaction.describe(error))
            return messages.refusal("unexpected failure")
        finally:
            for one in passed:
                one.close()

    async def _ping(self, request: Message, passed: list[socket.socket]) -> bytes:
        self._seen = self._requests()
        credentials = self._valid()
        return messages.encode("ok", pid=os.getpid(), credentials=credentials, requests=self._seen)

    async def _import(self, request: Message, waits: Callable[[], bool]) -> bytes:
        """Take what a login has brought, as long as somebody waits for it (`waits`)."""
        from ccfs.daemon.login_import import DEFAULT, SECONDS, When

        words = {when.value: when for when in When}
        when = words.get(request.values.get("when", When.IF_EMPTY.value))
        if when is None or not request.values.get("ccache"):
            raise MalformedError("not an import")
        into = request.values.get("into", DEFAULT)
        limit = request.number("deadline") / 1000 if "deadline" in request.values else SECONDS
        name = await self._imports().take(request.values["ccache"], into, when, limit, waits)
        return messages.encode("ok", **({} if name is None else {"into": name}))

    async def _destroy(self, request: Message, passed: list[socket.socket]) -> bytes:
        if not request.values.get("ccache"):
            raise MalformedError("no ccache")
        self._imports().destroy(request.values["ccache"])
        return messages.encode("ok")

    async def _kcm(self, request: Message, passed: list[socket.socket]) -> bytes:
        if self._face is None or len(passed) != 1:
            raise MalformedError("one descriptor is wanted")
        self._face.serve_connection(passed.pop())
        return messages.encode("ok")

    async def _kcm_given(self, request: Message, passed: list[socket.socket]) -> bytes:
        """The connections of the daemon before are here: from now on they are served."""
        if self._face is not None:
            self._face.begin()
        return messages.encode("ok")

    async def _retire(self, request: Message, passed: list[socket.socket]) -> bytes:
        """End if the mount is of no use: no valid credential in it, no open file, no request."""
        face = self._face
        idle = (
            self._requests() == self._seen
            and not self._fs.handles
            and not (face and face.connections)
            and not self._valid()
        )
        if not idle:
            return messages.refusal("busy")
        self._ended = True
        return messages.encode("ok")

    def _valid(self) -> int:
        """How many credentials may still be of use."""
        now = self._fs.committer.clock()
        return sum(valid_credentials(one, now) for one in self._fs.store.collection.all())

    def _requests(self) -> int:
        return sum(self._fs.committer.requests.values())

    def _imports(self) -> Importer:
        from ccfs.daemon.login_import import Importer

        self._importer = self._importer or Importer(self._fs.committer, self._fs.info.owner)
        return self._importer


_Act = Callable[[ControlEndpoint, Message, list[socket.socket]], Awaitable[bytes]]

_ACTS: dict[str, _Act] = {
    "ping": ControlEndpoint._ping,
    "destroy": ControlEndpoint._destroy,
    "kcm": ControlEndpoint._kcm,
    "kcm-given": ControlEndpoint._kcm_given,
    "retire": ControlEndpoint._retire,
}


def valid_credentials(ccache: Ccache, now: float) -> int:
    """How many credentials may still be of use.

    One that has expired is of none, renewable or not: a KDC renews only what is valid (RFC 4120,
    3.3.3).  Some have no end.
    """
    return sum(not 0 < stored.endtime <= now for stored in ccache.credentials.values())


def _is_a_device(descriptor: int) -> bool:
    """Whether the FUSE device is in its place: a socket is while the daemon starts (handshake)."""
    return stat.S_ISCHR(os.fstat(descriptor).st_mode)


def _has_gone(client: socket.socket) -> bool:
    """Whether nobody is there any more who could hear a reply."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _receive(client: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """A packet, and the sockets that came with it."""
    data, ancillary, _, _ = client.recvmsg(messages.MESSAGE_MAX + 1, _ROOM, socket.MSG_CMSG_CLOEXEC)
    numbers = array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    return data, [socket.socket(fileno=number) for number in numbers]
