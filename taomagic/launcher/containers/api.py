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

from taomagic.launcher.containers.endpoint import BadEndpoint, Endpoint, Tunnel

#: Seconds that an answer may take. Creating a container of a 10 GB image on a slow disk takes its time.
TIMEOUT_S = 120.0
_BLOCK = 1 << 16
_LONGEST_HEAD = 1 << 20
_LONGEST_SIZE = 1 << 10
_BEGINNING = b"HTTP/1."
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
        answer_within: float | None = TIMEOUT_S,
        **query: object,
    ) -> Iterator[bytes]:
        """Yield the body of an answer as it arrives.

        Parameters
        ----------
        method, path, body, headers, query
            The request.
        timeout
            Seconds without a further block after which the stream counts as broken off; ``None``: any time.
        answer_within
            Seconds until the answer must have begun.

        Raises
        ------
        EngineProblem
            The request is refused, or the connection breaks off before the end.
        """
        data = b"" if body is None else json.dumps(body).encode()
        answer = self._request(method, path, query, data, "application/json", headers or {}, answer_within)
        try:
            answer.body_timeout(timeout)
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
        target = quote(self.endpoint.base_path + path) + ("?" + encode_query(query) if query else "")
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
            said = _complaint(connection)
            connection.close()
            raise EngineProblem(said or _reason(error), url=url, cause=error) from None
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
        if len(words) < 2 or not words[1].isdigit():
            raise self._no_http()
        self.status = int(words[1])
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    def _head(self) -> tuple[bytes, bytes, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            data = self._connection.recv(_BLOCK)
            if not data:
                said = _complaint(self._connection) or "the connection broke off before the answer"
                raise EngineProblem(said, url=self._url)
            head += data
            if not head.startswith(_BEGINNING[: len(head)]) or len(head) > _LONGEST_HEAD:
                raise self._no_http()
        return head.partition(b"\r\n\r\n")

    def close(self) -> None:
        self._connection.close()

    def body_timeout(self, seconds: float | None) -> None:
        """Set how long the next block of the body may take."""
        self._connection.settimeout(seconds)

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it arrives, in blocks of any size but 0."""
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
                raise self._broken()
            if left is not None:
                data = data[:left]
                left -= len(data)
            yield data
            data = b""

    def _chunks(self) -> Iterator[bytes]:
        reader, data = ChunkReader(), self._rest
        while True:
            try:
                block = reader.feed(data)
            except ValueError:
                raise self._no_http() from None
            if block:
                yield block
            if reader.done:
                return
            data = self._receive()
            if not data:
                raise self._broken()

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_BLOCK)
        except OSError as error:
            raise EngineProblem(_reason(error), url=self._url, cause=error) from None

    def _no_http(self) -> EngineProblem:
        return EngineProblem("what answers there doesn't speak HTTP", url=self._url)

    def _broken(self) -> EngineProblem:
        return EngineProblem("the connection broke off in the middle of the answer", url=self._url)


class ChunkReader:
    """Takes the chunks of HTTP apart, block by block (RFC 9112, section 7.1).

    A log comes in one chunk a line. All that a block holds is handed on at once: its reader must not wait
    for the end of a chunk, nor be called for each line.
    """

    def __init__(self) -> None:
        self._held = b""  # the beginning of a size
        self._left = 0  # of the present chunk, with the line end behind it
        #: Whether the last chunk has been read.
        self.done = False

    def feed(self, block: bytes) -> bytes:
        """Return what a block adds to the body.

        Raises
        ------
        ValueError
            A size isn't a hexadecimal number.
        """
        data = self._held + block if self._held else block
        self._held = b""
        start, end, left = 0, len(data), self._left
        parts: list[bytes] = []
        take, find = parts.append, data.find  # this loop runs for each line of a log
        while not self.done:
            if left:
                after = start + left
                take(data[start : min(end, max(start, after - 2))])
                left = max(0, after - end)
                if left:
                    break
                start = after
            line_end = find(b"\r\n", start)
            if line_end < 0:
                if end - start > _LONGEST_SIZE:
                    raise ValueError("no size of a chunk")
                self._held = data[start:]
                break
            size = int(data[start:line_end].partition(b";")[0], 16)
            start = line_end + 2
            after = start + size + 2
            if size <= 0:
                if size < 0:
                    raise ValueError("no size of a chunk")
                self.done = True
            elif after <= end:
                take(data[start : after - 2])
                start = after
            else:
                left = size + 2
        self._left = left
        return b"".join(parts)


def _complaint(connection: socket.socket) -> str:
    """Return what the program behind a connection says about its end; a plain socket has none."""
    return connection.complaint() if isinstance(connection, Tunnel) else ""


def _reason(error: Exception) -> str:
    """Return an error in words, without its number."""
    words = error.strerror if isinstance(error, OSError) else ""
    return words or str(error) or "the connection broke off"


def _checked(answer: _Answer) -> _Answer:
    if 300 <= answer.status < 400 and answer.status != 304:  # 304: it is so already
        raise EngineProblem(f"it sends us elsewhere: {answer.headers.get('location', '')}", answer.status)
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
