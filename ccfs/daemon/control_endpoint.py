# SPDX-License-Identifier: MIT
"""The daemon's end of its control socket, at which ccfsd makes requests.

Knows the words of `ccfs.control`, and root at the other end; never FUSE, nor the bytes of a ccache.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable

import trio

from ccfs.control import messages
from ccfs.control.messages import MalformedError, Message
from ccfs.daemon.kcm_endpoint import KcmEndpoint
from ccfs.daemon.login_import import DEFAULT, SECONDS, Importer, ImportWhen
from ccfs.daemon.valid_credentials import count_valid
from ccfs.errors import UserError, redaction
from ccfs.linux import descriptors
from ccfs.linux.peer_credentials import peer
from ccfs.ops.file_system import FileSystem
from ccfs.takeover.fuse_connection import FuseConnection

log = logging.getLogger(__name__)

BACKLOG = 64
CLIENTS_MAX = 64
"""Connections that are served at a time."""
LINK = b"link"
"""The request for what another daemon needs to take over; its reply carries descriptors."""
_DESCRIPTORS_MAX = 4


class ControlEndpoint:
    """Serves ccfsd.

    `descriptor`: the listening socket, which is inherited.  Listening at it again makes the kernel
    name this process to clients (SO_PEERCRED), in place of the one that has bound it.
    `connection`: None where no other daemon can take it over.
    """

    def __init__(
        self,
        descriptor: int,
        fs: FileSystem,
        kcm: KcmEndpoint | None,
        connection: FuseConnection | None = None,
    ) -> None:
        self._listener = socket.socket(fileno=descriptor)
        self._listener.listen(BACKLOG)
        self._fs = fs
        self._kcm = kcm
        self._connection = connection
        self._importer: Importer | None = None
        self._requests_at_ping = -1
        self._retired = False

    @property
    def address(self) -> str | bytes:
        """Where it listens."""
        address: str | bytes = self._listener.getsockname()
        return address

    def close(self) -> None:
        """Close the listening socket."""
        self._listener.close()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        self._listener.setblocking(False)
        limiter = trio.CapacityLimiter(CLIENTS_MAX)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(self._listener)
                try:
                    client, _ = self._listener.accept()
                except OSError:  # the client has closed its end already
                    continue
                nursery.start_soon(self._serve, client, limiter)

    async def _serve(self, client: socket.socket, limiter: trio.CapacityLimiter) -> None:
        with client:
            client.setblocking(False)
            if peer(client).uid != 0:
                return
            async with limiter:
                while await self._serve_request(client):
                    pass
        if self._retired:
            os.kill(os.getpid(), signal.SIGTERM)

    async def _serve_request(self, client: socket.socket) -> bool:
        """Serve one request; False when there are no more."""
        try:
            await trio.lowlevel.wait_readable(client)
            data, passed = _receive(client)
            if not data:
                return False
            if data == LINK and self._connection and _is_device(self._connection.device):
                socket.send_fds(client, [messages.encode("ok")], self._connection.descriptors)
                return True
            reply = await self._reply(data, passed, lambda: not _is_closed(client))
            client.send(reply)
        except OSError:
            return False
        return not reply.startswith(b"error")

    async def _reply(
        self, data: bytes, passed: list[socket.socket], client_waits: Callable[[], bool]
    ) -> bytes:
        try:
            request = messages.decode(data)
            if request.word == "import":
                return await self._import(request, client_waits)
            handler = _HANDLERS.get(request.word)
            if handler is None:
                return messages.refusal("unknown request")
            return await handler(self, request, passed)
        except MalformedError as error:
            return messages.refusal(str(error))
        except UserError as error:
            return messages.refusal(error.reason)
        except Exception as error:
            log.error("%s", redaction.describe(error))
            return messages.refusal("unexpected failure")
        finally:
            for connection in passed:
                connection.close()

    async def _ping(self, request: Message, passed: list[socket.socket]) -> bytes:
        self._requests_at_ping = requests = self._count_requests()
        valid = self._count_valid()
        return messages.encode("ok", pid=os.getpid(), credentials=valid, requests=requests)

    async def _import(self, request: Message, client_waits: Callable[[], bool]) -> bytes:
        """Import the ccache that a login has left, as long as `client_waits()`."""
        words = {when.value: when for when in ImportWhen}
        when = words.get(request.values.get("when", ImportWhen.IF_EMPTY.value))
        if when is None or not request.values.get("ccache"):
            raise MalformedError("not an import")
        into = request.values.get("into", DEFAULT)
        limit = request.number("deadline") / 1000 if "deadline" in request.values else SECONDS
        name = await self._get_importer().take(
            request.values["ccache"], into, when, limit, client_waits
        )
        return messages.encode("ok", **({} if name is None else {"into": name}))

    async def _destroy(self, request: Message, passed: list[socket.socket]) -> bytes:
        if not request.values.get("ccache"):
            raise MalformedError("no ccache")
        self._get_importer().destroy(request.values["ccache"])
        return messages.encode("ok")

    async def _serve_kcm(self, request: Message, passed: list[socket.socket]) -> bytes:
        if self._kcm is None or len(passed) != 1:
            raise MalformedError("one descriptor is wanted")
        self._kcm.serve_connection(passed.pop())
        return messages.encode("ok")

    async def _begin_kcm(self, request: Message, passed: list[socket.socket]) -> bytes:
        """Serve the connections of the last daemon from now on: all of them are here."""
        if self._kcm is not None:
            self._kcm.begin()
        return messages.encode("ok")

    async def _retire(self, request: Message, passed: list[socket.socket]) -> bytes:
        """End if the mount is unused: no valid credential, no open file, no request since ping."""
        kcm = self._kcm
        idle = (
            self._count_requests() == self._requests_at_ping
            and not self._fs.handles
            and not (kcm and kcm.connections)
            and not self._count_valid()
        )
        if not idle:
            return messages.refusal("busy")
        self._retired = True
        return messages.encode("ok")

    def _count_valid(self) -> int:
        """Count the credentials in the mount that have not expired."""
        now = self._fs.committer.clock()
        return sum(count_valid(ccache, now) for ccache in self._fs.store.collection.all())

    def _count_requests(self) -> int:
        return sum(self._fs.committer.requests.values())

    def _get_importer(self) -> Importer:
        self._importer = self._importer or Importer(self._fs.committer, self._fs.info.owner)
        return self._importer


_Handler = Callable[[ControlEndpoint, Message, list[socket.socket]], Awaitable[bytes]]

_HANDLERS: dict[str, _Handler] = {
    "ping": ControlEndpoint._ping,
    "destroy": ControlEndpoint._destroy,
    "kcm": ControlEndpoint._serve_kcm,
    "kcm-given": ControlEndpoint._begin_kcm,
    "retire": ControlEndpoint._retire,
}


def _is_device(descriptor: int) -> bool:
    """True for the FUSE device: while the daemon starts, a socket is in its place (handshake)."""
    return stat.S_ISCHR(os.fstat(descriptor).st_mode)


def _is_closed(client: socket.socket) -> bool:
    """True if the client has closed its end, and would not receive a reply."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _receive(client: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """A packet, and the sockets that came with it."""
    data, received = descriptors.receive(client, messages.MESSAGE_MAX + 1, _DESCRIPTORS_MAX)
    return data, [socket.socket(fileno=descriptor) for descriptor in received]
