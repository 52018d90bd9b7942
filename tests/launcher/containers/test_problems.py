from __future__ import annotations

import errno
import grp
import os
import socket
import ssl
import types
from pathlib import Path

import pytest

from taomagic.launcher.containers import begin, problems
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.problems import explain, explain_pull, pull_kind

IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"


# What Docker engines of several ages really say.
@pytest.mark.parametrize(
    ("status", "text", "message", "hint"),
    [
        (500, "unauthorized: authentication required", "wants a login", "$oauthtoken"),
        (
            500,
            'Get "https://nvcr.io/v2/nvidia/tao/tao-toolkit/manifests/5.0.0": unauthorized: <html>\r\n<head>'
            "<title>401 Authorization Required</title></head>\r\n</html>\r\n",
            "wants a login",
            "ngc.nvidia.com",
        ),
        (
            404,
            "pull access denied for nvcr.io/nvidia/tao/tao-toolkit, repository does not exist or may require "
            '\'docker login\': denied: {"errors": [{"code": "DENIED", "message": "Access Denied"}]}',
            "wants a login",
            "NGC_API_KEY",
        ),
        (
            404,
            f"manifest for {IMAGE} not found: manifest unknown: manifest unknown",
            "has no such image",
            "tao info",
        ),
        (404, f'failed to resolve reference "{IMAGE}": {IMAGE}: not found', "has no such image", "tao info"),
        (
            500,
            'Get "https://nvcr.io/v2/": dial tcp: lookup nvcr.io on 127.0.0.53:53: no such host',
            "can't reach nvcr.io",
            "docker load",
        ),
        (
            500,
            'Get "https://nvcr.io/v2/": net/http: request canceled while waiting for connection (Client.Timeout '
            "exceeded while awaiting headers)",
            "can't reach nvcr.io",
            "proxy",
        ),
        (
            500,
            'Get "https://nvcr.io/v2/": proxyconnect tcp: dial tcp 10.0.0.1:80: i/o timeout',
            "can't reach",
            "proxy",
        ),
        (-1, "unexpected EOF", "can't reach nvcr.io", "network"),
        (
            -1,
            "read tcp 10.1.2.3:4->5.6.7.8:443: read: connection reset by peer",
            "can't reach nvcr.io",
            "network",
        ),
        (
            429,
            "toomanyrequests: You have reached your pull rate limit.",
            "lets nobody download that much",
            "docker login",
        ),
        (
            -1,
            "failed to register layer: Error processing tar file(exit status 1): write /usr/lib/libcudnn.so: no space "
            "left on device",
            "disk of the Docker engine is full",
            "docker system df",
        ),
        (
            404,
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "this machine's processor",
            "amd64",
        ),
        (
            500,
            'Get "https://nvcr.io/v2/": x509: certificate signed by unknown authority',
            "doesn't trust the certificate",
            "proxy",
        ),
        (500, "http: server gave HTTP response to HTTPS client", "speaks plain HTTP", "insecure-registries"),
        (500, "received unexpected HTTP status: 503 Service Unavailable", "has a difficulty", "later"),
        (-1, "filesystem layer verification failed for digest sha256:401", "is damaged", "again"),
        (500, "something never seen before", "something never seen before.", "journalctl"),
        (400, "something never seen before", "something never seen before.", "docker pull"),
    ],
)
def test_what_a_registry_says_is_explained(status: int, text: str, message: str, hint: str) -> None:
    problem = explain_pull(EngineProblem(text, status), IMAGE)
    assert problem.where == IMAGE
    assert message in problem.message
    assert hint in problem.hint
    assert "<" not in problem.message


def test_a_login_that_was_sent_is_a_wrong_one() -> None:
    refusal = EngineProblem("unauthorized: authentication required", 500)
    assert "refuses the login" in explain_pull(refusal, IMAGE, with_credentials=True).message
    other = explain_pull(refusal, "reg.example/tao:1", with_credentials=True)
    assert other.message.startswith("reg.example refuses the login")
    assert "docker login reg.example" in other.hint


def test_a_number_that_looks_like_a_status_is_none() -> None:
    assert pull_kind(EngineProblem("blob sha256:403401 is odd", 500)) == ""


# What `create` and `start` are refused with.
@pytest.mark.parametrize(
    ("status", "text", "message", "hint"),
    [
        (
            500,
            'could not select device driver "" with capabilities: [[gpu]]',
            "can't give GPUs",
            "NVIDIA Container Toolkit",
        ),
        (
            500,
            "unable to find user nobodyknows: no matching entries in passwd file",
            "doesn't know",
            "numbers",
        ),
        (404, "network nonet not found", "no such network", "docker network ls"),
        (
            400,
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
            "process: error during container init: error setting rlimits for ready process: error setting rlimit "
            "type 8: operation not permitted: unknown",
            "may not raise a limit",
            "memlock",
        ),
        (
            400,
            "OCI runtime create failed: unable to start container process: error during container init: error mounting "
            '"/etc/hostname" to rootfs at "/tmp": mount /etc/hostname:/tmp: not a directory: unknown: Are you trying '
            "to mount a directory onto a file (or vice-versa)?",
            'error mounting "/etc/hostname"',
            "mount map",
        ),
        (
            500,
            "failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error (open "
            "/run/x/log.json: no such file or directory): fork/exec /usr/bin/nvidia-container-runtime: no such file or "
            "directory: unknown",
            "can't give GPUs",
            "NVIDIA Container Toolkit",
        ),
        (
            500,
            "failed to create shim task: OCI runtime create failed: unable to start container process: "
            "error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: "
            "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
            "can't give GPUs",
            "nvidia-ctk",
        ),
        (400, "unknown or invalid runtime name: nvidia", "can't give GPUs", "nvidia-ctk"),
        (
            400,
            'invalid mount config for type "bind": bind source path does not exist: /home/ada/data',
            "bind source path does not exist: /home/ada/data",
            "mount map",
        ),
        (
            500,
            "driver failed programming external connectivity on endpoint x (ab): Bind for 0.0.0.0:8888 failed: port is "
            "already allocated",
            "Bind for 0.0.0.0:8888 failed",
            "ports",
        ),
        (
            400,
            "failed to create shim task: OCI runtime create failed: unable to start container process: "
            'exec: "ssd": executable file not found in $PATH: unknown',
            'exec: "ssd": executable file not found in $PATH',
            "tao info --verbose",
        ),
        (
            500,
            "write /var/lib/docker/overlay2/x: no space left on device",
            "disk of the Docker engine",
            "docker system",
        ),
        (
            400,
            "client version 1.50 is too new. Maximum supported API version is 1.41",
            "of another age",
            "Update",
        ),
        (
            500,
            "standard_init_linux.go:228: exec user process caused: exec format error",
            "processor",
            "amd64",
        ),
        (404, f"No such image: {IMAGE}", "isn't here", "again"),
        (
            400,
            "invalid reference format: repository name must be lowercase",
            "isn't the name of an image",
            "REGISTRY",
        ),
        (500, "oops", "couldn't start the container: oops.", "journalctl"),
        (
            409,
            "Conflict. The name is in use.",
            "couldn't start the container: Conflict. The name is in use.",
            "",
        ),
    ],
)
def test_what_the_engine_refuses_at_the_start_is_explained(
    status: int, text: str, message: str, hint: str
) -> None:
    problem = explain(EngineProblem(text, status), "start the container", image=IMAGE)
    assert problem.where == IMAGE
    assert message in problem.message
    assert hint in problem.hint


def unreachable(url: str, cause: OSError, message: str = "") -> problems.EnvironmentProblem:
    return explain(EngineProblem(message or str(cause), url=url, cause=cause), "be asked")


def test_a_socket_that_is_not_there_is_an_engine_that_doesnt_run(tmp_path: Path) -> None:
    with pytest.raises(EngineProblem) as caught:
        Engine(Endpoint(f"unix://{tmp_path}/docker.sock")).get("/version")
    problem = explain(caught.value, "be asked")
    assert problem.message == f"No Docker engine runs on this machine: there is no {tmp_path}/docker.sock."
    assert "--backend process" in problem.hint


def test_a_socket_that_nobody_serves_is_an_engine_that_was_stopped(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{tmp_path}/docker.sock")
    left.close()
    with pytest.raises(EngineProblem) as caught:
        Engine(Endpoint(f"unix://{tmp_path}/docker.sock")).get("/version")
    assert "isn't running" in explain(caught.value, "be asked").message


def test_a_missing_permission_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = PermissionError(errno.EACCES, "Permission denied")
    group = types.SimpleNamespace(gr_mem=[], gr_gid=4242)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: group)
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")
    problem = unreachable("unix:///var/run/docker.sock", cause)
    assert problem.message == "You may not use the Docker engine: no permission for /var/run/docker.sock."
    assert "sudo usermod -aG docker $USER" in problem.hint
    # Who has done that already must only begin a new session.
    group.gr_mem = ["ada"]
    assert "log out and in again" in unreachable("unix:///var/run/docker.sock", cause).hint
    assert "usermod" not in unreachable("unix:///var/run/docker.sock", cause).hint

    def no_group(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrnam", no_group)
    assert "rootless" in unreachable("unix:///var/run/docker.sock", cause).hint


def test_a_real_socket_without_permission(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    path = Path(f"/tmp/taomagic-test-{os.getpid()}.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen()
    os.seteuid(65534)
    try:
        with pytest.raises(EngineProblem) as caught:
            Engine(Endpoint(f"unix://{path}")).get("/version")
    finally:
        os.seteuid(0)
        server.close()
        path.unlink()
    assert "You may not use" in explain(caught.value, "be asked").message


def test_the_remedy_suits_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = FileNotFoundError(errno.ENOENT, "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Install Docker" in unreachable("unix:///x", gone).hint
    (tmp_path / "docker").touch(0o755)
    assert "systemctl start docker" in unreachable("unix:///x", gone).hint
    monkeypatch.setattr(
        os, "uname", lambda: types.SimpleNamespace(release="5.15.90.1-microsoft-standard-WSL2")
    )
    assert "Docker Desktop on Windows" in unreachable("unix:///x", gone).hint
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Start Docker Desktop" in unreachable("unix:///x", gone).hint


@pytest.mark.parametrize(
    ("url", "cause", "message", "hint"),
    [
        ("tcp://gpu:2375", ConnectionRefusedError(errno.ECONNREFUSED, "x"), "can't be reached", "DOCKER_HOST"),
        ("tcp://gpu:2375", socket.gaierror(-2, "Name or service not known"), "can't be reached", "DOCKER_HOST"),
        ("tcp://gpu:2375", TimeoutError("timed out"), "can't be reached", "network"),
        ("tcp://gpu:2376", ssl.SSLCertVerificationError(1, "verify failed"), "don't trust", "DOCKER_CERT_PATH"),
        ("ssh://gpu", BrokenPipeError(errno.EPIPE, "Broken pipe"), "over SSH", "ssh HOST docker version"),
    ],
)  # fmt: skip
def test_an_engine_elsewhere_is_named_by_its_address(
    url: str, cause: OSError, message: str, hint: str
) -> None:
    problem = unreachable(url, cause)
    assert problem.where == url
    assert message in problem.message
    assert hint in problem.hint


def test_plain_words_to_a_tls_engine_are_explained() -> None:
    problem = explain(
        EngineProblem("Client sent an HTTP request to an HTTPS server.", 400, url="tcp://x"), "be asked"
    )
    assert "DOCKER_TLS_VERIFY=1" in problem.hint


def test_a_page_of_words_is_cut() -> None:
    problem = explain(EngineProblem("word " * 1000, 500), "start the container")
    assert len(problem.message) < 500


def test_runtime_that_is_missing_is_no_program_of_the_image() -> None:
    class Refusing:
        deleted = ""

        def post(self, _path: str) -> None:
            raise EngineProblem(
                "oci: fork/exec /usr/bin/nvidia-container-runtime: no such file or directory", 500
            )

        def delete(self, path: str, **_options: object) -> None:
            self.deleted = path

    engine = Refusing()
    with pytest.raises(EngineProblem):
        begin.start(engine, "x", {})  # type: ignore[arg-type]
    assert engine.deleted == "/containers/x"
