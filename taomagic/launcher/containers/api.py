"""The Docker Engine API over a plain socket. Only the standard library is used, and of that only what loads fast.

Why not the ``docker`` package: importing it takes 0.33 s, and ``http.client`` 0.08 s, where a whole ``docker run``
takes 0.40 s. A command in a container must not cost a learner much more than that. What is needed of HTTP is small: one
request a connection, a body of known length, in chunks, or up to the end.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from taomagic.launcher.containers.endpoint import BadEndpoint, Endpoint

#: Seconds that an answer may take. Creating a container of a 10 GB image on a slow disk takes its time.
TIMEOUT_S = 120.0
_BLOCK = 1 << 16
_LONGEST_HEAD = 1 << 20
_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~/:@,")


class EngineProblem(Exception):
    """The engine refused a request or can't be reached.

    Parameters
    ----------
    message
        In the engine's words.
    status
        The HTTP status; 0 where there was no answer.
    url
        The engine's address, where there was no answer.
    cause
        Why there was none.
    """

    def __init__(
        self, message: str, status: int = 0, *, url: str = "", cause: Exception | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.url = url
        self.cause = cause

    @property
    def unreachable(self) -> bool:
        """Whether nobody answered."""
        return self.status == 0


class Engine:
    """A Docker engine.

    Parameters
    ----------
    endpoint
        Where it is.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def get(self, path: str, /, *, timeout: float = TIMEOUT_S, **query: object) -> Any:
        """Return what the engine says about something.

        Raises
        ------
        EngineProblem
            There is no such thing, or no engine.
        """
        return self._ask("GET", path, query, timeout=timeout)

    def post(
        self,
        path: str,
        /,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_S,
        **query: object,
    ) -> Any:
        """Have something done; ``body`` is sent as JSON. Raises as :meth:`get` does."""
        data = b"" if body is None else json.dumps(body).encode()
        return self._ask("POST", path, query, data, "application/json", headers or {}, timeout)

    def put(
        self, path: str, data: bytes, /, *, content_type: str = "application/x-tar", **query: object
    ) -> Any:
        """Send bytes. Raises as :meth:`get` does."""
        return self._ask("PUT", path, query, data, content_type)

    def delete(self, path: str, /, **query: object) -> Any:
        """Delete something. Raises as :meth:`get` does."""
        return self._ask("DELETE", path, query)

    def stream(
        self,
        method: str,
        path: str,
        /,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **query: object,
    ) -> Iterator[bytes]:
        """Yield the body of an answer as it arrives.

        Raises
        ------
        EngineProblem
            The request is refused, or the connection breaks off before the end.
        """
        data = b"" if body is None else json.dumps(body).encode()
        answer = self._request(method, path, query, data, "application/json", headers or {}, timeout)
        try:
            yield from answer.blocks()
        finally:
            answer.close()

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        data: bytes = b"",
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = TIMEOUT_S,
    ) -> Any:
        answer = self._request(method, path, query, data, content_type, headers or {}, timeout)
        try:
            content = b"".join(answer.blocks())
        finally:
            answer.close()
        if not content.strip():
            return None
        try:
            return json.loads(content)
        except ValueError:
            return content.decode("utf-8", "replace")

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        data: bytes,
        content_type: str,
        headers: Mapping[str, str],
        timeout: float | None,
    ) -> _Answer:
        target = quote(path) + ("?" + encode_query(query) if query else "")
        lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close"]
        lines += [f"Content-Length: {len(data)}"] if data or method in {"POST", "PUT"} else []
        lines += [f"Content-Type: {content_type}"] if data else []
        lines += [f"{name}: {value}" for name, value in headers.items()]
        url = self.endpoint.url
        try:
            connection = self.endpoint.connect()
        except (OSError, BadEndpoint) as error:
            raise EngineProblem(_reason(error), url=url, cause=error) from None
        try:
            connection.settimeout(timeout)
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
            return _checked(_Answer(connection, url))
        except OSError as error:
            connection.close()
            raise EngineProblem(_reason(error), url=url, cause=error) from None
        except BaseException:
            connection.close()
            raise


class _Answer:
    """One answer: its status, and its body block by block."""

    def __init__(self, connection: socket.socket, url: str) -> None:
        self._connection = connection
        self._url = url
        head, _, self._rest = self._head()
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/") or len(words) < 2 or not words[1].isdigit():
            raise EngineProblem("what answers there doesn't speak HTTP", url=self._url)
        self.status = int(words[1])
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    def _head(self) -> tuple[bytes, bytes, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            data = self._connection.recv(_BLOCK)
            if not data:
                raise EngineProblem("the connection broke off before the answer", url=self._url)
            head += data
            if len(head) > _LONGEST_HEAD:
                raise EngineProblem("what answers there doesn't speak HTTP", url=self._url)
        return head.partition(b"\r\n\r\n")

    def close(self) -> None:
        self._connection.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        if self.status in {204, 304}:
            return
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunks()
            return
        length = self.headers.get("content-length")
        left = int(length) if length is not None and length.isdigit() else None
        data = self._rest
        while left is None or left > 0:
            if not data:
                data = self._receive()
            if not data:
                if left is None:
                    return
                raise EngineProblem("the connection broke off in the middle of the answer", url=self._url)
            if left is not None:
                data = data[:left]
                left -= len(data)
            yield data
            data = b""

    def _chunks(self) -> Iterator[bytes]:
        held = self._rest
        while True:
            while b"\r\n" not in held:
                held += self._more()
            size, _, held = held.partition(b"\r\n")
            left = int(size.partition(b";")[0], 16)
            if left == 0:
                return
            # Hand on what there is of a chunk: a log's reader must not wait for its end.
            while left > 0:
                if not held:
                    held = self._more()
                part, held = held[:left], held[left:]
                left -= len(part)
                yield part
            while len(held) < 2:
                held += self._more()
            held = held[2:]

    def _more(self) -> bytes:
        data = self._receive()
        if not data:
            raise EngineProblem("the connection broke off in the middle of the answer", url=self._url)
        return data

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_BLOCK)
        except OSError as error:
            raise EngineProblem(_reason(error), url=self._url, cause=error) from None


def _reason(error: Exception) -> str:
    """Return an error in words, without its number."""
    words = error.strerror if isinstance(error, OSError) else ""
    return words or str(error) or "the connection broke off"


def _checked(answer: _Answer) -> _Answer:
    if answer.status >= 400:
        raise EngineProblem(_message(b"".join(answer.blocks()), answer.status), answer.status)
    return answer


def _message(content: bytes, status: int) -> str:
    """Return the engine's own words, which come as ``{"message": …}``."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace").strip() or f"HTTP status {status}"


def quote(text: str) -> str:
    """Percent-encode what can't stand in a path."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


def encode_query(query: Mapping[str, object]) -> str:
    """Return a query string; booleans become 1 and 0, structures JSON, as the API wants its filters."""
    words = []
    for name, value in query.items():
        if isinstance(value, bool):
            text = str(int(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
        words.append(f"{name}={quote(text).replace('/', '%2F').replace(':', '%3A').replace('@', '%40')}")
    return "&".join(words)


class FrameReader:
    """Splits the output of a container without TTY into its writes, block by block.

    A write comes as a frame with a header of 8 bytes: stream (1 stdout, 2 stderr), three zeros, and the length in
    network order (Engine API, "Attach to a container").
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """Return the writes that are whole now: their stream and what was written."""
        data = self._held + block if self._held else block
        found = []
        start, end = 0, len(data)
        while end - start >= 8:
            after = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
            if after > end:
                break
            found.append((data[start], data[start + 8 : after]))
            start = after
        self._held = data[start:]
        return found


def frames(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the writes in the output of a container without TTY: stream and bytes; see :class:`FrameReader`."""
    reader = FrameReader()
    for block in blocks:
        yield from reader.feed(block)
