from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.containers import login
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.login import Credentials, candidates

KEY = "nvapi-secret-of-ada-0123456789"


@pytest.fixture(autouse=True)
def _nothing_typed_before() -> Iterator[None]:
    login.forget()
    yield
    login.forget()


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """``stored(content)`` writes docker's configuration and returns an environment with it."""

    def write(content: object, **environ: str) -> dict[str, str]:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        return {"DOCKER_CONFIG": str(tmp_path), "PATH": os.environ["PATH"], **environ}

    return write


def code(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def header_of(credentials: Credentials) -> dict[str, str]:
    content: dict[str, str] = json.loads(base64.urlsafe_b64decode(credentials.header()))
    return content


@pytest.mark.parametrize("key", ["nvcr.io", "https://nvcr.io", "https://nvcr.io/v2/", "nvcr.io/v2"])
def test_a_login_of_docker_is_found_however_the_registry_is_written(
    stored: Callable[..., dict[str, str]], key: str
) -> None:
    environ = stored(
        {"auths": {"other.io": {"auth": code("x", "y")}, key: {"auth": code("$oauthtoken", KEY)}}}
    )
    (found,) = candidates("nvcr.io", environ)
    assert (found.username, found.password) == ("$oauthtoken", KEY)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": code("ada", "p:w: ü")}, {"username": "ada", "password": "p:w: ü"}),
        ({"username": "ada", "password": "pw"}, {"username": "ada", "password": "pw"}),
        ({"identitytoken": "tok", "auth": code("ada", "")}, {"identitytoken": "tok"}),
        ({"auth": ""}, None),
        ({"auth": "!not base64!"}, None),
        ({}, None),
        ("junk", None),
    ],
)
def test_every_form_of_a_stored_login_is_read(
    stored: Callable[..., dict[str, str]], entry: object, expected: dict[str, str] | None
) -> None:
    found = candidates("reg.example:5000", stored({"auths": {"reg.example:5000": entry}}))
    if expected is None:
        assert found == []
    else:
        assert header_of(found[0]) == {"serveraddress": "reg.example:5000", **expected}


def test_docker_hub_is_filed_under_its_old_address(stored: Callable[..., dict[str, str]]) -> None:
    environ = stored({"auths": {"https://index.docker.io/v1/": {"auth": code("ada", "pw")}}})
    (found,) = candidates("docker.io", environ)
    assert header_of(found)["serveraddress"] == "https://index.docker.io/v1/"


@pytest.fixture
def helper(tmp_path: Path) -> Callable[[str, str], str]:
    """``helper(name, script)`` makes a program of docker's for logins and returns a PATH with it."""

    def make(name: str, script: str) -> str:
        path = tmp_path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return f"{tmp_path}:{os.environ['PATH']}"

    return make


@pytest.mark.parametrize("setting", [{"credsStore": "vault"}, {"credHelpers": {"nvcr.io": "vault"}}])
def test_a_credential_helper_is_asked(
    stored: Callable[..., dict[str, str]], helper: Callable[[str, str], str], setting: dict[str, Any]
) -> None:
    path = helper("vault", 'read host; echo "{\\"Username\\": \\"u $1 $host\\", \\"Secret\\": \\"s\\"}"')
    (found,) = candidates("nvcr.io", stored({**setting, "auths": {"nvcr.io": {}}}, PATH=path))
    assert (found.username, found.password) == ("u get nvcr.io", "s")


def test_the_helper_of_a_registry_goes_before_the_common_one(
    stored: Callable[..., dict[str, str]], helper: Callable[[str, str], str]
) -> None:
    helper("common", 'echo "{\\"Username\\": \\"common\\", \\"Secret\\": \\"s\\"}"')
    path = helper("own", 'echo "{\\"Username\\": \\"own\\", \\"Secret\\": \\"s\\"}"')
    environ = stored({"credsStore": "common", "credHelpers": {"nvcr.io": "own"}}, PATH=path)
    assert [each.username for each in candidates("nvcr.io", environ)] == ["own"]
    assert [each.username for each in candidates("other.io", environ)] == ["common"]


def test_a_helper_may_give_a_token(
    stored: Callable[..., dict[str, str]], helper: Callable[[str, str], str]
) -> None:
    path = helper("vault", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"tok\\"}"')
    (found,) = candidates("nvcr.io", stored({"credsStore": "vault"}, PATH=path))
    assert header_of(found) == {"serveraddress": "nvcr.io", "identitytoken": "tok"}


@pytest.mark.parametrize(
    "script",
    [
        'echo "credentials not found in native keychain"; exit 1',
        "echo junk",
        "echo '[]'",
        'echo "{}"',
        'echo "{\\"Username\\": \\"\\", \\"Secret\\": \\"\\"}"',
    ],
)
def test_a_helper_that_knows_nothing_leaves_the_file(
    stored: Callable[..., dict[str, str]], helper: Callable[[str, str], str], script: str
) -> None:
    environ = stored(
        {"credsStore": "vault", "auths": {"nvcr.io": {"auth": code("file", "pw")}}},
        PATH=helper("vault", script),
    )
    assert [each.username for each in candidates("nvcr.io", environ)] == ["file"]


def test_a_helper_that_is_not_installed_is_no_error(stored: Callable[..., dict[str, str]]) -> None:
    assert candidates("nvcr.io", stored({"credsStore": "not-there"})) == []


def test_keys_in_the_environment_are_for_nvidias_registry_only(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "NGC_API_KEY": f" {KEY}\n", "NGC_CLI_API_KEY": "other-key"}
    found = candidates("nvcr.io", environ)
    assert [(each.username, each.password) for each in found] == [
        ("$oauthtoken", KEY),
        ("$oauthtoken", "other-key"),
    ]
    assert candidates("evil.example", environ) == []
    assert len(candidates("nvcr.io", {**environ, "NGC_CLI_API_KEY": KEY})) == 1


def test_a_broken_configuration_is_an_error_with_its_place(
    stored: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentProblem, match="can't be read") as caught:
        candidates("nvcr.io", stored("{broken"))
    assert caught.value.where == str(tmp_path / "config.json")


@pytest.mark.parametrize(
    "content", [[], {"auths": []}, {"auths": {"nvcr.io": None}}, {"credHelpers": "x"}, None]
)
def test_an_odd_configuration_holds_no_login(stored: Callable[..., dict[str, str]], content: object) -> None:
    assert candidates("nvcr.io", stored(content)) == []


class FakeEngine(Engine):
    """Accepts one login."""

    def __init__(self, *answers: object) -> None:
        super().__init__(Endpoint("unix:///nowhere"))
        self.answers = list(answers)
        self.bodies: list[dict[str, str]] = []

    def post(self, path: str, /, body: Any = None, **options: Any) -> Any:
        assert path == "/auth"
        self.bodies.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


REFUSED = EngineProblem("Get https://nvcr.io/v2/: unauthorized: authentication required", 401)
ACCEPTED = {"Status": "Login Succeeded", "IdentityToken": ""}


def test_only_the_api_key_is_asked_for_at_nvidias_registry() -> None:
    engine, prompts = FakeEngine(ACCEPTED), []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return f" {KEY} "

    found = login.login(engine, "nvcr.io", ask)
    assert engine.bodies == [{"username": "$oauthtoken", "password": KEY, "serveraddress": "nvcr.io"}]
    assert len(prompts) == 1
    assert "NGC API key" in prompts[0]
    assert "ngc.nvidia.com" in prompts[0]
    assert candidates("nvcr.io", {"HOME": "/nowhere"}) == [found]
    login.forget()
    assert candidates("nvcr.io", {"HOME": "/nowhere"}) == []


def test_a_wrong_key_may_be_corrected() -> None:
    engine, prompts = FakeEngine(REFUSED, ACCEPTED), []
    assert login.login(engine, "nvcr.io", lambda prompt: (prompts.append(prompt), KEY)[1]) is not None
    assert "refuses this key" in prompts[1]


def test_after_three_wrong_keys_it_is_over_and_nothing_is_kept() -> None:
    engine = FakeEngine(*[EngineProblem(f"unauthorized: {KEY}", 401)] * 3)
    with pytest.raises(EnvironmentProblem, match="refuses the login") as caught:
        login.login(engine, "nvcr.io", lambda _prompt: KEY)
    assert "$oauthtoken" in caught.value.hint
    assert KEY not in str(caught.value)
    assert candidates("nvcr.io", {"HOME": "/nowhere"}) == []


def test_nobody_who_answers_is_no_login() -> None:
    assert login.login(FakeEngine(), "nvcr.io", lambda _prompt: "  ") is None
    assert login.login(FakeEngine(), "reg.example", lambda _prompt: "") is None


def test_a_registry_out_of_reach_is_no_wrong_key() -> None:
    engine = FakeEngine(
        EngineProblem('Get "https://nvcr.io/v2/": dial tcp: lookup nvcr.io: no such host', 500)
    )
    with pytest.raises(EnvironmentProblem, match=r"can't reach nvcr\.io"):
        login.login(engine, "nvcr.io", lambda _prompt: KEY)


def test_an_identity_token_takes_the_place_of_the_password() -> None:
    engine = FakeEngine({"Status": "Login Succeeded", "IdentityToken": "tok"})
    answers = ["ada", "pw"]
    found = login.login(engine, "reg.example", lambda _prompt: answers.pop(0))
    assert found is not None
    assert header_of(found) == {"serveraddress": "reg.example", "identitytoken": "tok"}
    assert found.password == ""


def test_a_login_doesnt_show_its_secrets() -> None:
    credentials = Credentials("nvcr.io", "$oauthtoken", KEY, "identity-token")
    for text in (repr(credentials), str(credentials), f"{[credentials]}"):
        assert KEY not in text
        assert "identity-token" not in text
    assert credentials.hide(f"a {KEY} b identity-token") == "a ******** b ********"
