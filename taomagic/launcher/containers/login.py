"""Who we are to a registry: what ``docker login`` stored, an NGC API key from the environment, or one typed here.

A key that is typed here stays in this process's memory. It is never written to a file, a record or a log, and its
object doesn't show it.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import config_dir
from taomagic.launcher.containers.names import DOCKER_HUB, NGC
from taomagic.launcher.containers.problems import explain_pull, pull_kind

#: The user name that goes with an NGC API key (NVIDIA, "NGC Registry": literally this word).
NGC_USER = "$oauthtoken"
#: Variables that may hold an NGC API key.
NGC_VARIABLES = ("NGC_API_KEY", "NGC_CLI_API_KEY")
#: How often a wrong key may be typed.
TRIES = 3
_HELPER_S = 30.0
_HUB_KEY = "https://index.docker.io/v1/"

#: What was typed here: registry -> login. Gone with the process.
_given: dict[str, Credentials] = {}


@dataclass(frozen=True)
class Credentials:
    """A login to one registry.

    Parameters
    ----------
    address
        The registry, as the engine wants it.
    username, password
        Of the login.
    identity_token
        What some registries give in exchange for a password.
    """

    address: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def header(self) -> str:
        """Return the value of ``X-Registry-Auth`` (Engine API, "Authentication")."""
        content = {"serveraddress": self.address}
        if self.identity_token:
            content["identitytoken"] = self.identity_token
        else:
            content |= {"username": self.username, "password": self.password}
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()

    def hide(self, text: str) -> str:
        """Return a text without our secrets, should a registry repeat them."""
        for secret in (self.password, self.identity_token):
            if len(secret) >= 6:
                text = text.replace(secret, "********")
        return text


def candidates(registry: str, environ: Mapping[str, str]) -> list[Credentials]:
    """Return the logins to try at a registry, the likeliest first.

    Raises
    ------
    EnvironmentProblem
        Docker's configuration file can't be read.
    """
    found = [_given.get(registry), _stored(registry, environ)]
    if registry == NGC:
        keys = [environ.get(name, "").strip() for name in NGC_VARIABLES]
        found += [Credentials(registry, NGC_USER, key) for key in keys if key]
    return list(dict.fromkeys(each for each in found if each is not None))


def forget() -> None:
    """Forget what was typed in this process."""
    _given.clear()


def login(engine: Engine, registry: str, ask: Callable[[str], str]) -> Credentials | None:
    """Ask for a login, have the registry check it, and keep it for this process.

    Parameters
    ----------
    engine
        It speaks with the registry.
    registry
        Its host.
    ask
        Asks a person in a field that doesn't show what is typed; an empty answer ends the asking.

    Returns
    -------
    Credentials or None
        ``None`` where nobody answered.

    Raises
    ------
    EnvironmentProblem
        The registry refuses every answer, or can't be reached.
    """
    prompt = f"NGC API key for {NGC} (from ngc.nvidia.com, Setup > API Keys): "
    again = f"{NGC} refuses this key. NGC API key: "
    for attempt in range(TRIES):
        if registry == NGC:
            user, password = NGC_USER, ask(again if attempt else prompt).strip()
        else:
            user = ask(
                f"{registry} refuses this login. User name: " if attempt else f"User name for {registry}: "
            ).strip()
            password = ask(f"Password for {registry}: ") if user else ""
        if not password:
            return None
        credentials = Credentials(registry, user, password)
        try:
            token = check(engine, credentials)
        except EngineProblem as problem:
            if pull_kind(problem) != "login" or attempt == TRIES - 1:
                hidden = EngineProblem(
                    credentials.hide(problem.message), problem.status, url=problem.url, cause=problem.cause
                )
                raise explain_pull(hidden, f"{registry}/", with_credentials=True) from None
            continue
        _given[registry] = Credentials(registry, user, identity_token=token) if token else credentials
        return _given[registry]
    return None


def check(engine: Engine, credentials: Credentials) -> str:
    """Have the registry check a login; return its identity token, or nothing where it gives none.

    Raises
    ------
    EngineProblem
        The login is wrong, or the registry can't be reached.
    """
    body = {
        "username": credentials.username,
        "password": credentials.password,
        "serveraddress": credentials.address,
    }
    answer = engine.post("/auth", body)
    return str(answer.get("IdentityToken") or "") if isinstance(answer, dict) else ""


def _stored(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """Return what ``docker login`` stored: in its file, or with a helper that the file names."""
    path = Path(config_dir(environ)) / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"Docker's configuration can't be read: {error}",
            where=str(path),
            hint="Correct the file, or move it away and log in again with docker login.",
        ) from None
    content = content if isinstance(content, dict) else {}
    address = _HUB_KEY if registry == DOCKER_HUB else registry
    helper = _table(content, "credHelpers").get(registry) or content.get("credsStore")
    if helper and (found := _ask_helper(str(helper), address, environ)) is not None:
        return found
    for key, entry in _table(content, "auths").items():
        if _host(key) == _host(address) and isinstance(entry, dict):
            return _entry(address, entry)
    return None


def _entry(address: str, entry: Mapping[str, Any]) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(address, identity_token=str(token))
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if code := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(code)).decode().rstrip("\0").partition(":")
        except ValueError:
            return None
    return Credentials(address, user, password) if user and password else None


def _ask_helper(name: str, address: str, environ: Mapping[str, str]) -> Credentials | None:
    """Ask a program of docker's for a login (docker-credential-helpers' protocol); ``None`` where it has none."""
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=address.encode(),
            env=dict(environ),
            capture_output=True,
            timeout=_HELPER_S,
            check=True,
        )
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return (
            None  # not installed, locked, or it knows nothing of this registry: then the registry will say so
        )
    if user == "<token>":
        return Credentials(address, identity_token=secret)
    return Credentials(address, user, secret) if secret else None


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _host(key: str) -> str:
    """Return the registry of a key in docker's file, which may be a whole address."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
