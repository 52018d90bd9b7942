"""How large an image is, asked at its registry before the pull, which tells the size of a layer only when it begins.

Only a courtesy: whatever goes wrong here, the size is unknown and the engine pulls all the same, perhaps by a mirror
or a proxy that only it knows.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from taomagic.launcher.containers.login import Credentials
from taomagic.launcher.containers.names import DOCKER_HUB, ImageName

_TIMEOUT_S = 5.0
_LARGEST = 4 << 20
_LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def layer_sizes(
    name: ImageName, credentials: Credentials | None, architecture: str = "amd64"
) -> Mapping[str, int]:
    """Return the compressed size of each layer of an image: the digest's first 12 digits -> bytes.

    Parameters
    ----------
    name
        The image.
    credentials
        A login, where there is one.
    architecture
        Go's name of the engine's processor: ``amd64``, ``arm64``.

    Returns
    -------
    Mapping
        Empty where the registry doesn't tell.
    """
    try:
        return _Registry(name, credentials).sizes(architecture)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return {}


class _Registry:
    """One repository of a registry, as far as the distribution specification describes reading it."""

    def __init__(self, name: ImageName, credentials: Credentials | None) -> None:
        host, repository = name.registry, name.repository
        if host == DOCKER_HUB:
            host = "registry-1.docker.io"
            repository = repository if "/" in repository else f"library/{repository}"
        # The engine, too, speaks plain HTTP with a registry on its own machine.
        self._scheme = "http" if is_loopback(host) else "https"
        self._base = f"{self._scheme}://{host}/v2/{repository}/manifests/"
        self._version = name.version
        self._credentials = credentials
        self._authorization = ""

    def sizes(self, architecture: str) -> Mapping[str, int]:
        manifest = self._manifest(self._version)
        if "manifests" in manifest:
            fitting = [
                entry["digest"]
                for entry in manifest["manifests"]
                if entry.get("platform", {}).get("architecture") == architecture
                and entry["platform"].get("os", "linux") == "linux"
            ]
            manifest = self._manifest(fitting[0]) if fitting else {}
        return {
            str(layer["digest"]).partition(":")[2][:12]: int(layer["size"])
            for layer in manifest.get("layers", ())
        }

    def _manifest(self, version: str) -> dict[str, Any]:
        try:
            return self._read(version)
        except urllib.error.HTTPError as refusal:
            challenge = refusal.headers.get("WWW-Authenticate", "")
            refusal.close()
            if refusal.code != 401 or self._authorization:
                raise
        self._authorization = self._log_in(challenge)
        return self._read(version)

    def _read(self, version: str) -> dict[str, Any]:
        request = urllib.request.Request(self._base + urllib.parse.quote(version, safe=":"))
        request.add_header("Accept", ", ".join(_LISTS + _MANIFESTS))
        if self._authorization:
            # "Unredirected": a registry may send us elsewhere, and our login must not travel there.
            request.add_unredirected_header("Authorization", self._authorization)
        return _json(request)

    def _log_in(self, challenge: str) -> str:
        """Return the ``Authorization`` that a registry asks for (distribution specification, "Token")."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return self._basic()
        fields = dict(_CHALLENGE.findall(rest))
        realm = urllib.parse.urlsplit(fields.pop("realm"))
        if realm.scheme != "https" and not is_loopback(realm.netloc):
            raise ValueError("the token server isn't secured")
        query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
        request = urllib.request.Request(realm._replace(query=query).geturl())
        if self._credentials is not None and self._credentials.password:
            request.add_unredirected_header("Authorization", self._basic())
        answer = _json(request)
        return f"Bearer {answer.get('token') or answer['access_token']}"

    def _basic(self) -> str:
        if self._credentials is None:
            raise ValueError("no login")
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _json(request: urllib.request.Request) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        content: dict[str, Any] = json.loads(answer.read(_LARGEST))
    return content


def is_loopback(host: str) -> bool:
    """Tell whether a registry (``HOST[:PORT]``) is on the engine's own machine."""
    name = host.rpartition(":")[0] or host
    return name == "localhost" or name.startswith("127.")
