# SPDX-License-Identifier: MIT
"""The codec of the control protocol, and its client."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfs.control import messages
from ccfs.control.client import Client, UnreachableError, own_mount
from ccfs.control.messages import MalformedError, Message, RefusedError

words = st.from_regex(r"[a-z][a-z_-]{0,10}", fullmatch=True)
values = st.binary(max_size=40).map(os.fsdecode)


@given(words, st.dictionaries(words, values, max_size=5))
def test_decode_undoes_encode(word: str, said: dict[str, str]) -> None:
    said.pop("word", None)
    data = messages.encode(word, **said)
    assert messages.decode(data) == Message(word, said)
    assert b"\n" not in data
    assert b"\0" not in data


@given(st.binary(max_size=60))
def test_decoded_message_encodes_to_same_values(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except MalformedError:
        return
    values = {key: value for key, value in message.values.items() if key != "word"}
    again = messages.decode(messages.encode(message.word, **values))
    assert {**again.values, **{k: v for k, v in message.values.items() if k == "word"}} == {
        **message.values
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a reason", b"error a reason"), ("two\nlines\x1b", b"error two?lines?"), ("é", b"error ?")],
)
def test_refusal_is_one_plain_line(text: str, shown: bytes) -> None:
    assert messages.refusal(text) == shown
    with pytest.raises(RefusedError):
        messages.decode_reply(messages.refusal(text))


def test_overlong_message_is_refused() -> None:
    with pytest.raises(MalformedError):
        messages.encode("mount", x="y" * 5000)
    with pytest.raises(MalformedError):
        messages.encode("mount", x=" " * 1400)
    assert len(messages.refusal("x" * 9999)) == messages.MESSAGE_MAX


def serving(path: Path, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """A thread that listens at a path and serves one client."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        with listener:
            client, _ = listener.accept()
            with client:
                answer(client)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def replies(data: bytes) -> Callable[[socket.socket], None]:
    """Answer any request with the same bytes."""

    def answer(client: socket.socket) -> None:
        client.recv(5000)
        client.send(data)

    return answer


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"ok path=/run/ccfs/1 device=0:7", {"path": "/run/ccfs/1", "device": "0:7"}),
        (b"error no", RefusedError),
        (b"fine", UnreachableError),
        (b"ok path", UnreachableError),
        (b"ok " + b"x" * 5000, UnreachableError),
        (b"", UnreachableError),
    ],
)
def test_client_maps_replies_to_results(tmp_path: Path, reply: bytes, outcome: object) -> None:
    path = tmp_path / "control"
    thread = serving(path, replies(reply) if reply else lambda client: None)
    with Client(str(path), 20) as client:
        if isinstance(outcome, dict):
            assert client.ask("mount").values == outcome
        else:
            with pytest.raises(outcome):  # type: ignore[call-overload]
                client.ask("mount")
    thread.join(20)


def test_client_without_server_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        Client(str(tmp_path / "control"))
    assert own_mount(str(tmp_path / "control")) is None


def test_client_gives_up_after_timeout(tmp_path: Path) -> None:
    path = tmp_path / "control"
    over = threading.Event()
    thread = serving(path, lambda client: over.wait(20) and None)  # type: ignore[arg-type]
    try:
        with Client(str(path), 0.05) as client, pytest.raises(UnreachableError, match="in time"):
            client.ask("mount")
    finally:
        over.set()
        thread.join(20)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_client_refuses_listener_other_than_root(tmp_path: Path) -> None:
    """Only root's server may say where a mount is."""
    tmp_path.chmod(0o777)
    path = tmp_path / "control"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for parent in (tmp_path, *tmp_path.parents):
                parent.stat()
            os.chdir(tmp_path)
            os.setuid(64199)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind("control")
            listener.listen()
            os.write(writer, b"x")
            listener.accept()
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        with pytest.raises(UnreachableError, match="not root"):
            Client(str(path), 20)
    finally:
        os.waitpid(pid, 0)
        os.close(reader)
