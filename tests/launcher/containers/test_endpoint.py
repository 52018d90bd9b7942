from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import BadEndpoint, Endpoint, find_endpoint
from taomagic.launcher.containers.frames import frames
from taomagic.launcher.containers.problems import explain

from .forwarding import FAKE_SSH, Forwarder, make_certificates, server_context, write_context
from .images import Docker


@pytest.fixture
def socket_path(docker_engine: Docker) -> str:
    if not docker_engine.host.startswith("unix://"):
        pytest.skip("the engine isn't behind a socket of this machine")
    return docker_engine.host.removeprefix("unix://")


@pytest.fixture
def forward(socket_path: str) -> Iterator[Callable[..., Forwarder]]:
    made: list[Forwarder] = []

    def start(context: object = None) -> Forwarder:
        made.append(Forwarder(socket_path, context))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for forwarder in made:
        forwarder.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def uses_the_engine(endpoint: Endpoint, image: str) -> None:
    """Run a container: a long log in a stream, an answer that waits, an upload."""
    engine = Engine(endpoint)
    assert engine.get("/version")["ApiVersion"]
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 0.2; exit 7"
    body = {"Image": image, "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}
    name = engine.post("/containers/create", body)["Id"]
    try:
        engine.post(f"/containers/{name}/start")
        blocks = engine.stream("GET", f"/containers/{name}/logs", follow=True, stdout=True)
        text = b"".join(text for _, text in frames(blocks))
        assert text.split(b"\n") == [*(b"line %d" % i for i in range(3000)), b""]
        assert engine.post(f"/containers/{name}/wait")["StatusCode"] == 7
    finally:
        engine.delete(f"/containers/{name}", force=True)


def test_an_engine_behind_a_tcp_port(forward: Callable[..., Forwarder], busybox_image: str) -> None:
    port = forward().port
    for host in (f"tcp://127.0.0.1:{port}", f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/"):
        endpoint = find_endpoint({"DOCKER_HOST": host})
        assert not endpoint.local
        uses_the_engine(endpoint, busybox_image)


def test_an_engine_behind_tls_with_certificates_of_both_sides(
    forward: Callable[..., Forwarder], certificates: Path, busybox_image: str
) -> None:
    port = forward(server_context(certificates / "server")).port
    environ = {
        "DOCKER_HOST": f"tcp://127.0.0.1:{port}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(certificates / "client"),
    }
    uses_the_engine(find_endpoint(environ), busybox_image)


def test_tls_without_our_certificate_is_refused_with_an_explanation(
    forward: Callable[..., Forwarder], certificates: Path, tmp_path: Path
) -> None:
    port = forward(server_context(certificates / "server")).port
    shutil.copy(certificates / "client" / "ca.pem", tmp_path)
    endpoint = Endpoint(f"tcp://127.0.0.1:{port}", str(tmp_path))
    with pytest.raises(EngineProblem) as caught:
        Engine(endpoint).get("/version")
    problem = explain(caught.value, "be asked")
    assert "don't trust each other" in problem.message
    assert "DOCKER_CERT_PATH" in problem.hint


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_checking_is_off(
    forward: Callable[..., Forwarder], certificates: Path, tmp_path: Path
) -> None:
    port = forward(server_context(certificates / "server", wants_client=False)).port
    host = f"tcp://127.0.0.1:{port}"
    with pytest.raises(EngineProblem, match="certificate verify failed"):
        Engine(Endpoint(host, str(tmp_path))).get("/version")
    environ = {"DOCKER_HOST": host, "DOCKER_TLS": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    assert Engine(find_endpoint(environ)).get("/version")["ApiVersion"]
    # The checking is what was asked for with DOCKER_TLS_VERIFY.
    with pytest.raises(EngineProblem):
        Engine(find_endpoint({**environ, "DOCKER_TLS_VERIFY": "1"})).get("/version")


def test_a_certificate_for_another_host_is_refused(forward: Callable[..., Forwarder], tmp_path: Path) -> None:
    make_certificates(tmp_path, host="10.9.8.7")
    port = forward(server_context(tmp_path / "server", wants_client=False)).port
    with pytest.raises(EngineProblem, match="certificate verify failed"):
        Engine(Endpoint(f"tcp://127.0.0.1:{port}", str(tmp_path / "client"))).get("/version")


def test_plain_words_to_a_tls_port_are_explained(
    forward: Callable[..., Forwarder], certificates: Path
) -> None:
    port = forward(server_context(certificates / "server")).port
    with pytest.raises(EngineProblem) as caught:
        Engine(Endpoint(f"tcp://127.0.0.1:{port}")).get("/version")
    assert caught.value.unreachable


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, socket_path: str) -> Path:
    """An `ssh` on the PATH that notes its words in the file and reaches this machine's engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(FAKE_SSH, encoding="utf-8")
    (folder / "ssh").chmod(0o755)
    record = tmp_path / "words"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_RECORD", str(record))
    monkeypatch.setenv("SSH_TARGET", f"unix://{socket_path}")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return record


def test_an_engine_over_ssh(ssh: Path, busybox_image: str) -> None:
    endpoint = find_endpoint({"DOCKER_HOST": "ssh://ada@gpu.example:2222"})
    assert not endpoint.local
    uses_the_engine(endpoint, busybox_image)
    words = ssh.read_text(encoding="utf-8").split()
    assert words[words.index("-l") + 1] == "ada"
    assert words[words.index("-p") + 1] == "2222"
    assert words[words.index("--") :] == ["--", "gpu.example", "docker", "system", "dial-stdio"]
    assert "BatchMode=yes" in words


def test_a_socket_named_with_the_ssh_host_is_passed_on(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.environ["SSH_TARGET"].removeprefix("unix:///")
    monkeypatch.setenv("SSH_TARGET", "unix:///nowhere")
    assert Engine(Endpoint(f"ssh://gpu.example/{path}")).get("/version")["ApiVersion"]
    words = ssh.read_text(encoding="utf-8").split()
    assert words[words.index("--") :] == [
        "--", "gpu.example", "docker", "--host", f"unix:///{path}", "system", "dial-stdio",
    ]  # fmt: skip
    assert "-l" not in words
    assert "-p" not in words


def test_requests_share_one_login_over_ssh_unless_that_is_switched_off(
    ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="tao-", dir="/tmp") as folder:  # short enough for a socket's path
        monkeypatch.setenv("DOCKER_CONFIG", f"{folder}/new")
        engine = Engine(Endpoint("ssh://gpu.example"))
        engine.get("/_ping")
        words = ssh.read_text(encoding="utf-8").split()
        assert {"ControlMaster=auto", f"ControlPath={folder}/new/tao-%C", "ControlPersist=60s"} <= set(words)
        assert Path(folder, "new").stat().st_mode & 0o77 == 0  # nobody else may use our login
        monkeypatch.setenv("DOCKER_SSH_MUX_PERSIST", "5m")
        engine.get("/_ping")
        assert "ControlPersist=5m" in ssh.read_text(encoding="utf-8")
        monkeypatch.setenv("DOCKER_SSH_NO_MUX", "1")
        engine.get("/_ping")
        assert "Control" not in ssh.read_text(encoding="utf-8")
        monkeypatch.delenv("DOCKER_SSH_NO_MUX")
        monkeypatch.setenv("DOCKER_CONFIG", f"{folder}/{'long' * 20}")
        engine.get("/_ping")
        assert "Control" not in ssh.read_text(encoding="utf-8")


def test_a_refusal_of_ssh_is_told_in_its_own_words(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_REFUSES", "ada@gpu.example: Permission denied (publickey).")
    with pytest.raises(EngineProblem, match=r"Permission denied \(publickey\)") as caught:
        Engine(Endpoint("ssh://ada@gpu.example")).get("/version")
    problem = explain(caught.value, "be asked")
    assert problem.where == "ssh://ada@gpu.example"
    assert "no password" in problem.hint


def test_without_ssh_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineProblem) as caught:
        Engine(Endpoint("ssh://gpu.example")).get("/version")
    assert caught.value.unreachable
    assert "over SSH" in explain(caught.value, "be asked").message


def test_ssh_ends_with_the_connection(ssh: Path, socket_path: str, busybox_image: str) -> None:
    plain = Engine(Endpoint(f"unix://{socket_path}"))
    engine = Engine(Endpoint("ssh://gpu.example"))
    before = children()
    # Another worker's containers make events too: this stream is of one container only.
    name = f"taomagic-test-ssh-ends-{uuid.uuid4().hex[:12]}"
    blocks = engine.stream("GET", "/events", filters=json.dumps({"container": [name]}))
    create = threading.Timer(
        0.3, lambda: plain.post("/containers/create", {"Image": busybox_image}, name=name)
    )
    create.start()
    try:
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 5
        while children() - before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not children() - before
    finally:
        create.join()
        plain.delete(f"/containers/{name}", force=True)


def children() -> set[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8")
    return {int(word) for word in found.split()}


def test_a_connection_that_is_cut_in_mid_log_is_noticed(
    forward: Callable[..., Forwarder], busybox_image: str
) -> None:
    forwarder = forward()
    engine = Engine(Endpoint(f"tcp://127.0.0.1:{forwarder.port}"))
    body = {
        "Image": busybox_image,
        "Cmd": ["sh", "-c", "echo a; sleep 30"],
        "HostConfig": {"NetworkMode": "none"},
    }
    name = engine.post("/containers/create", body)["Id"]
    try:
        engine.post(f"/containers/{name}/start")
        blocks = frames(engine.stream("GET", f"/containers/{name}/logs", follow=True, stdout=True))
        assert next(blocks) == (1, b"a\n")
        forwarder.cut()
        began = time.monotonic()
        with pytest.raises(EngineProblem) as caught:
            next(blocks)
        assert caught.value.unreachable
        assert time.monotonic() - began < 5
    finally:
        engine.delete(f"/containers/{name}", force=True)


def test_a_half_open_connection_is_probed(forward: Callable[..., Forwarder]) -> None:
    with Endpoint(f"tcp://127.0.0.1:{forward().port}").connect() as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60


@pytest.mark.parametrize(
    ("url", "seen", "local"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock", True),
        ("tcp://gpu:2375", "tcp://gpu:2375", False),
        ("gpu:2375", "tcp://gpu:2375", False),
        ("http://gpu:2375", "tcp://gpu:2375", False),
        ("https://gpu:443", "https://gpu:443", False),
        ("ssh://ada@gpu", "ssh://ada@gpu", False),
    ],
)
def test_addresses_are_understood_as_docker_does(url: str, seen: str, local: bool) -> None:
    endpoint = Endpoint(url)
    assert (endpoint.url, endpoint.local) == (seen, local)


@pytest.mark.parametrize("url", ["npipe:////./pipe/docker_engine", "fd://", "tcp://", "unix://", "ftp://x"])
def test_other_addresses_are_errors(url: str) -> None:
    with pytest.raises(BadEndpoint, match=r"is none of unix://PATH"):
        find_endpoint({"DOCKER_HOST": url})


def test_a_port_that_is_no_number_is_an_error() -> None:
    with pytest.raises(EngineProblem, match='"docker" isn\'t a port number'):
        Engine(Endpoint("tcp://127.0.0.1:docker")).get("/version")


def test_a_host_that_can_be_no_name_is_an_error() -> None:
    with pytest.raises(EngineProblem, match="can't be the name of a machine"):
        Engine(Endpoint("tcp://engine..example:2375")).get("/version")


def test_ports_and_ipv6_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def connect(address: tuple[str, int], timeout: float | None) -> socket.socket:
        seen.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    for url, tls in (
        ("tcp://gpu", ""),
        ("tcp://gpu", "/certs"),
        ("tcp://[::1]:99", ""),
        ("tcp://[::1]", ""),
        ("https://gpu", ""),
    ):
        with pytest.raises(ConnectionRefusedError):
            Endpoint(url, tls).connect()
    assert seen == [("gpu", 2375), ("gpu", 2376), ("::1", 99), ("::1", 2375), ("gpu", 2376)]


def test_the_path_of_a_proxy_goes_before_every_request(forward: Callable[..., Forwarder]) -> None:
    # The engine itself takes a version as such a path.
    engine = Engine(Endpoint(f"tcp://127.0.0.1:{forward().port}/v1.40/"))
    assert engine.get("/version")["ApiVersion"]
    with pytest.raises(EngineProblem, match="page not found"):
        Engine(Endpoint(f"{engine.endpoint.url}nix")).get("/version")
    with pytest.raises(EngineProblem, match=r"sends us elsewhere: /v1\.40/version"):
        engine.get("//version")


def test_the_chosen_context_is_used(
    forward: Callable[..., Forwarder], certificates: Path, tmp_path: Path
) -> None:
    port = forward(server_context(certificates / "server")).port
    tls = write_context(tmp_path, "gpu box", f"tcp://127.0.0.1:{port}")
    shutil.copytree(certificates / "client", tls)
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "gpu box"}
    assert Engine(find_endpoint(environ)).get("/version")["ApiVersion"]
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "gpu box"}), encoding="utf-8")
    del environ["DOCKER_CONTEXT"]
    assert Engine(find_endpoint(environ)).get("/version")["ApiVersion"]
    # DOCKER_HOST comes before the context, and "default" means none.
    assert find_endpoint({**environ, "DOCKER_HOST": "tcp://other:1"}).url == "tcp://other:1"
    assert find_endpoint({**environ, "DOCKER_CONTEXT": "default"}).local


def test_a_context_may_leave_the_certificate_unchecked(
    forward: Callable[..., Forwarder], certificates: Path, tmp_path: Path
) -> None:
    port = forward(server_context(certificates / "server", wants_client=False)).port
    write_context(tmp_path, "lab", f"tcp://127.0.0.1:{port}", skip_verify=True)
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "lab"}
    assert Engine(find_endpoint(environ)).get("/version")["ApiVersion"]


def test_a_context_made_by_docker_itself_is_understood(socket_path: str, tmp_path: Path) -> None:
    environ = {**os.environ, "DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    environ.pop("DOCKER_HOST", None)
    words = ["docker", "context", "create", "café", "--docker", f"host=unix://{socket_path}"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:  # docker takes only ASCII names
        words[3] = "cafe"
        subprocess.run(words, env=environ, capture_output=True, check=True)
    subprocess.run(["docker", "context", "use", words[3]], env=environ, capture_output=True, check=True)
    endpoint = find_endpoint(environ)
    assert endpoint.url == f"unix://{socket_path}"
    assert Engine(endpoint).get("/version")["ApiVersion"]


def test_an_unknown_or_broken_context_is_an_error(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "nix"}
    with pytest.raises(BadEndpoint, match='no usable Docker context "nix"'):
        find_endpoint(environ)
    write_context(tmp_path, "nix", "npipe://x")
    with pytest.raises(BadEndpoint, match="npipe"):
        find_endpoint(environ)
    message = explain(BadEndpoint("x"), "be found").hint
    assert "docker context ls" in message


def test_ones_own_rootless_engine_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "taomagic.launcher.containers.endpoint.SOCKETS", ("$HOME/a.sock", "$XDG_RUNTIME_DIR/b.sock")
    )
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}
    assert find_endpoint(environ).url == f"unix://{tmp_path}/a.sock"
    (tmp_path / "b.sock").touch()
    assert find_endpoint(environ).url == f"unix://{tmp_path}/b.sock"
    (tmp_path / "a.sock").touch()
    assert find_endpoint(environ).url == f"unix://{tmp_path}/a.sock"
    monkeypatch.setattr(os, "access", lambda path, _mode: path.endswith("b.sock"))
    assert find_endpoint(environ).url == f"unix://{tmp_path}/b.sock"
