from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.launcher.containers.api import ChunkReader, Engine, EngineProblem, encode_query, quote
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.frames import FrameReader, frames

from .images import Docker

Talk = Callable[[socket.socket], None]


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Talk], Engine]]:
    """``served(talk)`` gives an engine where ``talk`` answers each connection."""
    servers = []

    def serve(talk: Talk) -> Engine:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    talk(connection)

        threading.Thread(target=run, daemon=True).start()
        return Engine(Endpoint(f"tcp://127.0.0.1:{server.getsockname()[1]}"))

    yield serve
    for server in servers:
        server.close()


def request_of(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    return data


def answering(answer: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(answer)

    return talk


def chunked(parts: Sequence[bytes], extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return body + b"0\r\n\r\n"


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


parts_ = st.lists(st.binary(min_size=1, max_size=300), max_size=12)
cuts_ = st.lists(st.integers(0, 10_000), max_size=30)


@given(parts_, cuts_, st.sampled_from([b"", b";name=value"]))
def test_chunks_give_the_same_body_however_they_arrive(
    parts: list[bytes], cuts: list[int], extension: bytes
) -> None:
    reader = ChunkReader()
    body = b"".join(reader.feed(block) for block in cut(chunked(parts, extension), cuts))
    assert body == b"".join(parts)
    assert reader.done


@given(parts_, cuts_, st.booleans())
def test_an_unfinished_body_is_never_taken_for_a_whole_one(
    parts: list[bytes], cuts: list[int], in_the_end: bool
) -> None:
    whole = chunked(parts)
    reader = ChunkReader()
    # Without its last chunk ("0\r\n\r\n"), or broken off anywhere before that.
    end = len(whole) - 5 if in_the_end else max(0, (cuts or [0])[0] % (len(whole) - 4))
    body = b"".join(reader.feed(block) for block in cut(whole[:end], cuts))
    assert not reader.done
    assert b"".join(parts).startswith(body)


@pytest.mark.parametrize("junk", [b"zz\r\n", b"-5\r\nabc", b"\r\n", b"x" * 5000])
def test_junk_for_a_chunk_size_is_an_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ChunkReader().feed(junk)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=400)), max_size=12), cuts_)
def test_frames_are_the_same_however_they_arrive(writes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for stream, text in writes)
    assert list(frames(iter(cut(data, cuts)))) == writes


def test_a_long_frame_comes_whole_and_its_pieces_are_copied_once() -> None:
    text = bytes(range(256)) * (4 << 12)
    data = b"\1\0\0\0" + len(text).to_bytes(4, "big") + text + b"\2\0\0\0\0\0\0\1x"
    reader = FrameReader()
    cpu = time.process_time()
    found = [write for i in range(0, len(data), 512) for write in reader.feed(data[i : i + 512])]
    # 0.01 s; with all that came before copied for each block it would be 8192 times 2 MB.
    assert time.process_time() - cpu < 1.5
    assert found == [(1, text), (2, b"x")]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.integers(1, 50), st.sampled_from("lce"))
@settings(max_examples=30, deadline=None)
def test_an_answer_gives_the_same_body_however_it_arrives(parts: list[bytes], step: int, form: str) -> None:
    body = b"".join(parts)
    head = {
        "l": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body),
        "c": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "e": b"HTTP/1.0 200 OK\r\n\r\n",
    }[form]
    answer = head + (chunked(parts) if form == "c" else body)
    ours, theirs = socket.socketpair()
    feeder = threading.Thread(target=_feed, args=(theirs, answer, step))
    feeder.start()
    engine = Engine(_Ready(ours))
    assert b"".join(engine.stream("GET", "/x")) == body
    feeder.join()


def _feed(connection: socket.socket, answer: bytes, step: int) -> None:
    with connection, contextlib.suppress(OSError):  # whoever has the whole body may hang up
        request_of(connection)
        for start in range(0, len(answer), step):
            connection.sendall(answer[start : start + step])


class _Ready(Endpoint):
    """An endpoint that is connected already."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("unix:///test")
        self._ready = connection

    def connect(self, timeout: float | None = 10.0) -> socket.socket:
        return self._ready


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "broke off before the answer"),
        (b"HTTP/1.1 200", "broke off before the answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "doesn't speak HTTP"),
        (b"\x16\x03\x01\x00", "doesn't speak HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "doesn't speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "in the middle of the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "in the middle of the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "doesn't speak HTTP"),
    ],
)
def test_a_broken_or_foreign_answer_is_an_unreachable_engine(
    served: Callable[[Talk], Engine], answer: bytes, message: str
) -> None:
    with pytest.raises(EngineProblem, match=message) as caught:
        served(answering(answer)).get("/info")
    assert caught.value.unreachable
    assert caught.value.url.startswith("tcp://127.0.0.1:")


def test_a_foreign_server_that_keeps_the_line_open_is_noticed_at_once(
    served: Callable[[Talk], Engine],
) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP ready\r\n")
        time.sleep(5)

    began = time.monotonic()
    with pytest.raises(EngineProblem, match="doesn't speak HTTP"):
        served(talk).get("/info")
    assert time.monotonic() - began < 3


def test_an_endless_head_ends(served: Callable[[Talk], Engine]) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X: y\r\n" * 10_000)

    with pytest.raises(EngineProblem, match="doesn't speak HTTP"):
        served(talk).get("/info")


def test_a_silent_engine_times_out(served: Callable[[Talk], Engine]) -> None:
    def talk(connection: socket.socket) -> None:
        request_of(connection)
        time.sleep(3)

    engine = served(talk)
    began = time.monotonic()
    with pytest.raises(EngineProblem, match="timed out") as caught:
        engine.get("/info", timeout=0.3)
    assert caught.value.unreachable
    with pytest.raises(EngineProblem, match="timed out"):
        list(engine.stream("GET", "/events", answer_within=0.3))
    assert time.monotonic() - began < 8


def test_a_stream_may_pause_unless_a_limit_is_set(served: Callable[[Talk], Engine]) -> None:
    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        time.sleep(0.6)
        connection.sendall(b"2\r\ncd\r\n0\r\n\r\n")

    engine = served(talk)
    assert list(engine.stream("GET", "/x", answer_within=0.3)) == [b"ab", b"cd"]
    with pytest.raises(EngineProblem, match="timed out"):
        list(engine.stream("GET", "/x", timeout=0.2))


def test_what_arrives_is_handed_on_before_the_chunk_ends(served: Callable[[Talk], Engine]) -> None:
    seen = threading.Event()

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabc")
        assert seen.wait(5)
        connection.sendall(b"def\r\n0\r\n\r\n")

    blocks = served(talk).stream("GET", "/x")
    assert next(blocks) == b"abc"
    seen.set()
    assert b"".join(blocks) == b"def"


def test_a_refusal_has_the_engines_words_and_status(served: Callable[[Talk], Engine]) -> None:
    body = json.dumps({"message": "No such container: x"}).encode()
    talk = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    for ask in (lambda e: e.get("/x"), lambda e: list(e.stream("GET", "/x")), lambda e: e.delete("/x")):
        with pytest.raises(EngineProblem, match=r"^No such container: x$") as caught:
            ask(served(talk))
        assert caught.value.status == 404
        assert not caught.value.unreachable


def test_an_answer_without_content_is_none(served: Callable[[Talk], Engine]) -> None:
    assert served(answering(b"HTTP/1.1 204 No Content\r\n\r\n")).post("/x") is None


def test_the_request_is_what_the_engine_expects(served: Callable[[Talk], Engine]) -> None:
    requests = []

    def talk(connection: socket.socket) -> None:
        requests.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    engine = served(talk)
    engine.post("/containers/créé/start", {"é": 1}, headers={"X-Registry-Auth": "abc"}, t=5, force=True)
    engine.put("/containers/x/archive", b"tar", path="/a b")
    engine.get("/containers/json", filters={"label": ["a=b"]})
    assert requests[0] == (
        b"POST /containers/cr%C3%A9%C3%A9/start?t=5&force=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
        b"Content-Length: 13\r\nContent-Type: application/json\r\nX-Registry-Auth: abc\r\n\r\n"
        + b'{"\\u00e9": 1}'
    )
    assert requests[1].startswith(b"PUT /containers/x/archive?path=%2Fa%20b HTTP/1.1\r\n")
    assert requests[2].startswith(
        b"GET /containers/json?filters=%7B%22label%22%3A%20%5B%22a%3Db%22%5D%7D HTTP/1.1\r\n"
    )


@given(st.text(), st.text())
def test_names_with_any_characters_survive_the_address(name: str, value: str) -> None:
    from urllib.parse import parse_qs, unquote

    name, value = (text.encode("utf-8", "replace").decode() for text in (name, value))
    assert unquote(quote(name)) == name
    assert set("\r\n ?#").isdisjoint(quote(name))
    assert parse_qs(encode_query({"x": value}), keep_blank_values=True) == {"x": [value]}


def test_a_stream_that_is_left_closes_its_connection(served: Callable[[Talk], Engine]) -> None:
    closed = threading.Event()

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b"x" * 4096)
        except OSError:
            closed.set()

    blocks = served(talk).stream("GET", "/x")
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert closed.wait(5)


def test_200_megabytes_pass_through_without_growing(served: Callable[[Talk], Engine]) -> None:
    frame = b"\1\0\0\0" + (1016).to_bytes(4, "big") + b"x" * 1016
    part = frame * 64

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = (b"%x\r\n%s\r\n" % (len(part), part)) * 4
        for _ in range(200 << 20 >> 18):
            connection.sendall(block)
        connection.sendall(b"0\r\n\r\n")

    engine = served(talk)
    before = most = resident_bytes()
    size = 0
    for number, (_, text) in enumerate(frames(engine.stream("GET", "/x"))):
        size += len(text)
        if number % 5000 == 0:
            most = max(most, resident_bytes())
    assert size == (200 << 20) // 1024 * 1016
    assert most - before < 10 << 20


def resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def test_a_log_of_the_real_engine_is_read_whole_and_in_order(
    docker_engine: Docker, busybox_image: str
) -> None:
    engine = Engine(Endpoint(docker_engine.host))
    script = "i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    body = {"Image": busybox_image, "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}
    name = engine.post("/containers/create", body)["Id"]
    try:
        engine.post(f"/containers/{name}/start")
        query = {"follow": True, "stdout": True, "stderr": True}
        found: dict[int, list[bytes]] = {1: [], 2: []}
        for stream, text in frames(engine.stream("GET", f"/containers/{name}/logs", None, **query)):  # type: ignore[arg-type]
            found[stream].append(text)
        assert b"".join(found[1]).split(b"\n") == [*(b"out %d" % i for i in range(20000)), b""]
        assert b"".join(found[2]).split(b"\n") == [*(b"err %d" % i for i in range(20000)), b""]
    finally:
        engine.delete(f"/containers/{name}", force=True)


def test_importing_the_client_loads_nothing_slow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import taomagic.launcher.containers.api; "
        "print(sorted({'http', 'urllib', 'ssl', 'subprocess', 'docker', 'email'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
