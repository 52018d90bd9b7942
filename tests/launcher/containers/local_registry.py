"""A Docker registry on 127.0.0.1, from which the real engine really pulls (distribution specification, HTTP API V2)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def layer(files: dict[str, bytes]) -> bytes:
    """Return a tar of files; paths that end in a slash are folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.rstrip("/"))
            entry.mode = 0o755
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """Say nothing: an engine that hangs up in the middle of a layer is what some tests are about."""


class LocalRegistry:
    """A registry in a thread.

    Parameters
    ----------
    user, password
        The login that it wants; empty: none.
    token
        Ask for it by a token server, as nvcr.io does, and not at once.
    """

    def __init__(self, user: str = "", password: str = "", *, token: bool = False) -> None:
        self.user, self.password, self.token = user, password, token
        self.manifests: dict[str, tuple[str, bytes]] = {}  # "repository:version" -> type, content
        self.blobs: dict[str, bytes] = {}
        #: Paths that were asked for, in order.
        self.asked: list[str] = []
        #: Values of ``Authorization`` that came.
        self.logins: set[str] = set()
        #: Bytes a second at which blobs are sent; 0: as fast as it goes.
        self.speed = 0
        #: Whether it hangs up on everybody, even in the middle of a layer.
        self.gone = False
        #: What every question for a manifest is answered with, instead: status, body.
        self.refusal: tuple[int, bytes] | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry._answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        repository: str,
        tag: str,
        layers: list[dict[str, bytes]],
        *,
        architecture: str = "amd64",
        config: dict[str, Any] | None = None,
        listed: bool = False,
    ) -> str:
        """Add an image and return its full name; ``listed`` puts it into a list of platforms."""
        tars = [layer(files) for files in layers]
        packed = [gzip.compress(tar, 1, mtime=0) for tar in tars]
        settings = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": config or {},
                "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
                "history": [{"created_by": "test"} for _ in tars],
            }
        ).encode()
        for blob in (settings, *packed):
            self.blobs[digest(blob)] = blob
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(settings),
                    "digest": digest(settings),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(blob),
                        "digest": digest(blob),
                    }
                    for blob in packed
                ],
            }
        ).encode()
        self._put(repository, digest(manifest), MANIFEST, manifest)
        self._put(repository, tag, MANIFEST, manifest)
        if listed:
            entry = {
                "mediaType": MANIFEST,
                "size": len(manifest),
                "digest": digest(manifest),
                "platform": {"architecture": architecture, "os": "linux"},
            }
            content = json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": [entry]}).encode()
            self._put(repository, tag, LIST, content)
            self._put(repository, digest(content), LIST, content)
        return f"{self.host}/{repository}:{tag}"

    def _put(self, repository: str, version: str, kind: str, content: bytes) -> None:
        self.manifests[f"{repository}:{version}"] = (kind, content)

    def blobs_asked(self) -> list[str]:
        return [path for path in self.asked if "/blobs/" in path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.gone:
            handler.close_connection = True
            return
        path = handler.path.partition("?")[0]
        self.asked.append(handler.path)
        authorization = handler.headers.get("Authorization", "")
        if authorization:
            self.logins.add(authorization)
        basic = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if path == "/token":
            if authorization == basic:
                self._send(handler, 200, json.dumps({"token": f"t-{self.password}"}).encode())
            else:
                self._send(
                    handler, 401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
                )
            return
        if self.user and authorization != (f"Bearer t-{self.password}" if self.token else basic):
            challenge = 'Basic realm="test"'
            if self.token:
                challenge = (
                    f'Bearer realm="http://{self.host}/token",service="test",scope="repository:x:pull"'
                )
            body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
            self._send(handler, 401, body, {"WWW-Authenticate": challenge})
            return
        words = path.split("/")
        if path in {"/v2/", "/v2"}:
            self._send(handler, 200, b"{}")
        elif "manifests" in words:
            self._manifest(handler, "/".join(words[2 : words.index("manifests")]), words[-1])
        elif "blobs" in words and words[-1] in self.blobs:
            self._blob(handler, self.blobs[words[-1]])
        else:
            self._send(handler, 404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')

    def _manifest(self, handler: BaseHTTPRequestHandler, repository: str, version: str) -> None:
        if self.refusal is not None:
            self._send(handler, *self.refusal)
            return
        found = self.manifests.get(f"{repository}:{version}")
        if found is None:
            self._send(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
            return
        kind, content = found
        self._send(handler, 200, content, {"Docker-Content-Digest": digest(content)}, kind)

    def _blob(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        # An engine asks for the rest of what it has the beginning of.
        begin = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        size, content = len(content), content[int(begin) :] if begin else content
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("Content-Type", "application/octet-stream")
        handler.end_headers()
        if handler.command == "HEAD":
            return
        step = 1 << 16 if not self.speed else max(1, self.speed // 20)
        for start in range(0, len(content), step):
            part = content[start : start + step]
            if self.gone:
                handler.close_connection = True
                return
            handler.wfile.write(part)
            if self.speed:
                time.sleep(len(part) / self.speed)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        handler.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            handler.send_header(name, value)
        handler.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
