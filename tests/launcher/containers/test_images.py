from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import uuid
from collections import namedtuple
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem, StageInterrupted
from taomagic.launcher.containers import images, login, registry
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.images import check_disk, data_root, ensure, find, gigabytes
from taomagic.launcher.containers.names import parse_name
from taomagic.launcher.containers.pulling import PullProgress, PullReader

from .images import Docker
from .local_registry import LocalRegistry

MEGABYTE = 1_000_000


@pytest.fixture
def engine(docker_engine: Docker) -> Engine:
    return Engine(Endpoint(docker_engine.host))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nobody has logged in here."""
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def _nothing_typed_before() -> Iterator[None]:
    login.forget()
    yield
    login.forget()


@pytest.fixture
def serve(docker_engine: Docker, engine: Engine) -> Iterator[Callable[..., LocalRegistry]]:
    """Start registries; what was pulled from them is removed at the end."""
    if not docker_engine.host.startswith("unix://"):
        pytest.skip("a registry here can't be reached by an engine elsewhere")
    made: list[LocalRegistry] = []

    def start(*args: str, **options: Any) -> LocalRegistry:
        made.append(LocalRegistry(*args, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()
        for image in engine.get("/images/json"):
            for tag in image.get("RepoTags") or []:
                if tag.startswith(each.host):
                    engine.delete(f"/images/{tag}", force=True)


def random_layers(count: int, size: int = MEGABYTE) -> list[dict[str, bytes]]:
    generator = random.Random(uuid.uuid4().int)
    return [{f"file{number}": generator.randbytes(size)} for number in range(count)]


def test_facts_of_an_image_are_read(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    config = {
        "Entrypoint": ["/bin/env", "A=b"],
        "Cmd": ["/bin/bash"],
        "StopSignal": "SIGINT",
        "User": "1000:1000",
        "Labels": {"maker": "ada"},
    }
    facts = ensure(engine, serve().add("tao/facts", "1", random_layers(1), config=config), environ)
    assert facts.id.startswith("sha256:")
    assert (facts.entrypoint, facts.command) == (("/bin/env", "A=b"), ("/bin/bash",))
    assert (facts.stop_signal, facts.user, facts.labels) == ("SIGINT", "1000:1000", {"maker": "ada"})
    assert (facts.size, facts.architecture) == (MEGABYTE, "amd64")


def test_an_image_that_is_here_needs_no_login_and_no_registry(
    engine: Engine,
    busybox_image: str,
    tag_as: Callable[[str, str], str],
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    name = tag_as(busybox_image, "nvcr.io/nvidia/tao/taomagic-test:5.0.0")
    # Not even docker's configuration is looked at.
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text("{broken", encoding="utf-8")
    seen: list[PullProgress] = []
    asked: list[str] = []

    class Counting(Engine):
        def get(self, path: str, /, **options: Any) -> Any:
            asked.append(path)
            return super().get(path, **options)

    facts = ensure(Counting(engine.endpoint), name, environ, seen.append)
    assert facts == find(engine, busybox_image)
    assert seen == []
    assert asked == [f"/images/{name}/json"]


def test_an_image_that_is_not_here_is_none(engine: Engine) -> None:
    assert find(engine, f"nvcr.io/nvidia/tao/nix:{uuid.uuid4().hex}") is None


def test_a_name_that_is_none_is_refused_with_an_example(engine: Engine, environ: dict[str, str]) -> None:
    from taomagic.launcher.containers.problems import explain

    with pytest.raises(EngineProblem) as caught:
        ensure(engine, "nvcr.io/NVIDIA/Tao:x", environ)
    assert "isn't the name of an image" in explain(caught.value, "pull", image="nvcr.io/NVIDIA/Tao:x").message


@pytest.mark.parametrize("listed", [False, True])
def test_a_pull_tells_size_layers_speed_and_end(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str], listed: bool
) -> None:
    server = serve()
    config = {"Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"]}
    name = server.add("tao/ssd", "5.0.0-tf1.15.5", random_layers(4), config=config, listed=listed)
    server.speed = MEGABYTE  # a second for each layer, three at a time
    seen: list[PullProgress] = []
    facts = ensure(engine, name, environ, seen.append)
    assert facts.entrypoint == ("/opt/nvidia/nvidia_entrypoint.sh",)
    assert seen[0].state == "asking"
    assert [progress.finished for progress in seen].index(True) == len(seen) - 1
    pulling = [progress for progress in seen if progress.state == "pulling"]
    # The size is known before the first byte, since the registry was asked.
    assert pulling[0].complete
    assert 4 * MEGABYTE < pulling[0].total_bytes < 4.1 * MEGABYTE
    assert {progress.total_bytes for progress in pulling if len(progress.layers) == 4} == {
        seen[-1].total_bytes
    }
    done = [progress.done_bytes for progress in pulling]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert any(progress.rate and 1.5 * MEGABYTE < progress.rate < 4.5 * MEGABYTE for progress in pulling)
    assert any(progress.eta_s is not None and 0 < progress.eta_s < 3 for progress in pulling)
    assert {layer.state for progress in pulling for layer in progress.layers} >= {"waiting", "downloading"}
    end = seen[-1]
    assert (end.state, end.fraction, end.layers_done) == ("done", 1.0, 4)
    assert end.done_bytes == end.total_bytes


def test_layers_that_are_here_are_not_counted(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    layers = random_layers(3)
    ensure(engine, server.add("tao/base", "1", layers[:2]), environ)
    seen: list[PullProgress] = []
    ensure(engine, server.add("tao/top", "1", layers), environ, seen.append)
    assert [layer.state for layer in seen[-1].layers] == ["here", "here", "done"]
    assert MEGABYTE < seen[-1].total_bytes < 1.1 * MEGABYTE


def test_an_image_is_pulled_by_its_digest(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    server.add("tao/ssd", "1", random_layers(1, 1000))
    version = next(key for key in server.manifests if "sha256" in key).partition(":")[2]
    name = f"{server.host}/tao/ssd@{version}"
    try:
        assert ensure(engine, name, environ) == find(engine, name)
    finally:
        engine.delete(f"/images/{name}", force=True)


@pytest.mark.parametrize("token", [False, True])
def test_a_missing_login_is_asked_for_checked_and_kept(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str], token: bool
) -> None:
    server = serve("ada", "secret-key-of-ada", token=token)
    name = server.add("tao/ssd", "1", random_layers(1))
    with pytest.raises(EnvironmentProblem, match="wants a login") as caught:
        ensure(engine, name, environ)
    assert f"docker login {server.host}" in caught.value.hint
    answers = ["ada", "wrong", "ada", "secret-key-of-ada"]
    seen: list[PullProgress] = []
    assert ensure(engine, name, environ, seen.append, lambda _prompt: answers.pop(0)).id
    assert answers == []
    assert seen[-1].state == "done"
    assert [progress.finished for progress in seen].index(True) == len(seen) - 1
    # The next image of this registry needs no answer.
    assert ensure(engine, server.add("tao/ssd", "2", random_layers(1, 100)), environ).id
    assert not list(Path(environ["HOME"]).iterdir())  # nothing was written


def test_the_view_that_shows_the_pull_is_asked_for_the_key(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    class View:
        def __init__(self) -> None:
            self.prompts: list[str] = []

        def __call__(self, progress: PullProgress) -> None:
            pass

        def ask(self, prompt: str) -> str:
            self.prompts.append(prompt)
            return ""

    server = serve("ada", "secret-key-of-ada")
    view = View()
    with pytest.raises(EnvironmentProblem, match="wants a login"):
        ensure(engine, server.add("tao/ssd", "1", random_layers(1, 10)), environ, view)
    assert view.prompts == [f"User name for {server.host}: "]


def test_a_stored_login_is_used_and_an_expired_one_hides_no_public_image(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str], tmp_path: Path
) -> None:
    import base64

    server = serve("ada", "secret-key-of-ada")
    code = base64.b64encode(b"ada:secret-key-of-ada").decode()
    (tmp_path / ".docker").mkdir()
    stored = tmp_path / ".docker" / "config.json"
    stored.write_text(json.dumps({"auths": {server.host: {"auth": code}}}), encoding="utf-8")
    assert ensure(engine, server.add("tao/ssd", "1", random_layers(1, 10)), environ).id
    assert server.logins == {f"Basic {code}"}
    open_server = serve()
    stored.write_text(json.dumps({"auths": {open_server.host: {"auth": code}}}), encoding="utf-8")
    assert ensure(engine, open_server.add("tao/ssd", "1", random_layers(1, 10)), environ).id


def test_a_refused_login_is_no_missing_one(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve("ada", "secret-key-of-ada")
    login._given[server.host] = login.Credentials(server.host, "ada", "old-key-of-ada")
    with pytest.raises(EnvironmentProblem, match="refuses the login") as caught:
        ensure(engine, server.add("tao/ssd", "1", random_layers(1, 10)), environ)
    assert "old-key-of-ada" not in str(caught.value)


def test_a_registry_that_repeats_the_key_doesnt_get_it_onto_the_page(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(1, 10))
    server.refusal = (403, b'{"errors":[{"code":"DENIED","message":"secret-key-of-ada is odd"}]}')
    login._given[server.host] = login.Credentials(server.host, "ada", "secret-key-of-ada")
    with pytest.raises(EnvironmentProblem, match=r"\*{8} is odd") as caught:
        ensure(engine, name, environ)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "secret-key" not in f"{chain!r} {chain} {vars(chain)}"
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_an_unknown_tag_is_told(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    server.add("tao/ssd", "1", random_layers(1, 10))
    with pytest.raises(EnvironmentProblem, match="has no such image") as caught:
        ensure(engine, f"{server.host}/tao/ssd:9", environ)
    assert caught.value.where == f"{server.host}/tao/ssd:9"
    assert "tao info --verbose" in caught.value.hint


def test_an_image_for_another_processor_is_told(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    other = "arm64" if engine.get("/version")["Arch"] == "amd64" else "amd64"
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(1, 10), architecture=other, listed=True)
    with pytest.raises(EnvironmentProblem, match="isn't made for this machine's processor"):
        ensure(engine, name, environ)


def test_a_registry_that_is_gone_is_told(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(1, 10))
    server.close()
    with pytest.raises(EnvironmentProblem, match="can't reach 127") as caught:
        ensure(engine, name, environ)
    assert "docker load" in caught.value.hint


def test_a_registry_that_goes_in_mid_pull_is_waited_for(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(3))
    server.speed = MEGABYTE
    messages: list[str] = []

    def report(progress: PullProgress) -> None:
        messages.append(progress.message)
        server.gone = progress.done_bytes > MEGABYTE and not any("Retrying" in text for text in messages)

    assert ensure(engine, name, environ, report).size == 3 * MEGABYTE
    assert any("Retrying in" in text for text in messages)  # the engine tries five times
    assert "Retrying" not in messages[-1]


def test_a_damaged_layer_fails_the_pull(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(3))
    seen: list[PullProgress] = []
    for key, blob in server.blobs.items():
        if len(blob) > 1000:
            server.blobs[key] = b"x" * len(blob)
    with pytest.raises(EnvironmentProblem, match="is damaged") as caught:
        ensure(engine, name, environ, seen.append)
    assert seen[-1].state == "failed"
    assert seen[-1].done_bytes > 0
    assert caught.value.where == name
    assert find(engine, name) is None


def test_an_interrupt_ends_the_pull(
    engine: Engine, serve: Callable[..., LocalRegistry], environ: dict[str, str]
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(2))
    server.speed = MEGABYTE // 4
    seen: list[PullProgress] = []

    def report(progress: PullProgress) -> None:
        seen.append(progress)
        if progress.state == "pulling" and progress.done_bytes:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(StageInterrupted, match="pull was interrupted"):
            ensure(engine, name, environ, report)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[-1].state == "stopped"
    assert seen[-1].elapsed_s < 3
    assert find(engine, name) is None


def lines(*entries: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\r\n" for entry in entries)


REPORT = lines(
    {"status": "Pulling from nvidia/tao/tao-toolkit", "id": "5.0.0-tf1.15.5"},
    {"status": "Already exists", "progressDetail": {}, "id": "aaaaaaaaaaaa"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "bbbbbbbbbbbb"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "cccccccccccc"},
    {"status": "Waiting", "progressDetail": {}, "id": "cccccccccccc"},
    {"status": "Downloading", "progressDetail": {"current": 400, "total": 1000}, "id": "bbbbbbbbbbbb"},
    {"status": "Verifying Checksum", "progressDetail": {}, "id": "bbbbbbbbbbbb"},
    {"status": "Download complete", "progressDetail": {}, "id": "bbbbbbbbbbbb"},
    {"status": "Downloading", "progressDetail": {"current": 50, "total": 200}, "id": "cccccccccccc"},
    {"status": "Extracting", "progressDetail": {"current": 250, "total": 1000}, "id": "bbbbbbbbbbbb"},
)


def read(*blocks: bytes, sizes: dict[str, int] | None = None) -> PullProgress:
    reader = PullReader("x", sizes)
    for number, block in enumerate(blocks):
        reader.feed(block, float(number))
    reader.close()
    return reader.progress(float(len(blocks)))


def test_the_engines_report_is_understood() -> None:
    progress = read(REPORT)
    assert [(layer.id[0], layer.state, layer.done, layer.total) for layer in progress.layers] == [
        ("a", "here", 0, None),
        ("b", "unpacking", 1000, 1000),
        ("c", "downloading", 50, 200),
    ]
    assert progress.layers[1].unpacked == 0.25
    assert (progress.done_bytes, progress.total_bytes, progress.complete) == (1050, 1200, True)
    assert progress.fraction == pytest.approx(1050 / 1200)
    assert progress.layers_done == 1


@given(st.lists(st.integers(0, len(REPORT)), max_size=20))
def test_the_report_may_arrive_in_any_blocks(cuts: list[int]) -> None:
    places = sorted({0, len(REPORT), *cuts})
    whole, pieces = read(REPORT), read(*(REPORT[a:b] for a, b in pairwise(places)))
    assert (pieces.layers, pieces.done_bytes) == (whole.layers, whole.done_bytes)


def test_before_every_layer_has_begun_the_total_is_only_a_lower_bound() -> None:
    progress = read(REPORT[: REPORT.index(b'{"status": "Downloading", "progressDetail": {"current": 50')])
    assert not progress.complete
    assert (progress.total_bytes, progress.fraction, progress.eta_s) == (1000, None, None)


def test_sizes_from_the_registry_make_the_total_whole_from_the_start() -> None:
    begin = REPORT[: REPORT.index(b'{"status": "Waiting"')]
    progress = read(begin, sizes={"aaaaaaaaaaaa": 7, "bbbbbbbbbbbb": 1000, "cccccccccccc": 200})
    assert (progress.complete, progress.total_bytes, progress.done_bytes) == (True, 1200, 0)


def test_an_engine_that_sends_no_totals_counts_bytes_only() -> None:
    progress = read(
        lines(
            {"status": "Pulling fs layer", "id": "b"},
            {"status": "Downloading", "progressDetail": {"current": 500}, "id": "b"},
            {"status": "Extracting", "progressDetail": {"current": 3, "units": "s"}, "id": "c"},
        )
    )
    assert (progress.done_bytes, progress.complete, progress.fraction) == (500, False, None)
    assert progress.layers[1].unpacked is None


def test_a_download_that_begins_again_is_no_negative_speed() -> None:
    reader = PullReader("x", {"b": 1000})
    for now, current in enumerate((100, 600, 50, 150)):
        detail = {"status": "Downloading", "progressDetail": {"current": current, "total": 1000}, "id": "b"}
        reader.feed(lines(detail), float(now))
    progress = reader.progress(3.0)
    assert progress.done_bytes == 150
    assert progress.rate == pytest.approx(100.0)
    assert progress.eta_s == pytest.approx(8.5)


def test_retries_and_junk_are_taken_calmly() -> None:
    progress = read(
        b"<html>proxy</html>\n\n[1]\nnull\n"
        + REPORT
        + lines({"status": "Retrying in 5 seconds", "progressDetail": {}, "id": "cccccccccccc"})
        + b'{"status": "cut of'
    )
    assert progress.message == "cccccccccccc: Retrying in 5 seconds"
    assert len(progress.layers) == 3


@pytest.mark.parametrize(
    "entry",
    [
        {"errorDetail": {"message": "unexpected EOF"}, "error": "unexpected EOF"},
        {"error": "unexpected EOF"},
        {"errorDetail": {"code": 1, "message": "unexpected EOF"}},
    ],
)
def test_an_error_inside_the_report_is_raised(entry: dict[str, Any]) -> None:
    with pytest.raises(EngineProblem, match="unexpected EOF") as caught:
        read(REPORT + lines(entry))
    assert not caught.value.unreachable


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "download", "outcome"),
    [
        (100e9, 9e9, None),
        (20e9, 9e9, "the image takes 9.0 GB, unpacked two to three times as much"),
        (5e9, 9e9, EnvironmentProblem),
        (100e9, 0, None),
        (20e9, 0, "some of NVIDIA's images need more"),
        (0.3e9, 0, EnvironmentProblem),
        (1e9, 5e6, None),
    ],
)
def test_the_disk_is_looked_at_before_the_pull(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, download: float, outcome: object
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, int(free)))
    info = {"DockerRootDir": str(tmp_path)}
    engine = Engine(Endpoint("unix:///x"))
    if outcome is EnvironmentProblem:
        with pytest.raises(EnvironmentProblem, match="are free on the disk of the Docker engine") as caught:
            check_disk(engine, "x", info, int(download))
        assert "docker system df" in caught.value.hint
        assert gigabytes(free) in caught.value.message
        return
    notes = check_disk(engine, "x", info, int(download))
    assert (outcome is None) == (notes == ())
    if isinstance(outcome, str):
        assert outcome in notes[0]
    # The disk of another machine isn't ours to look at.
    assert check_disk(Engine(Endpoint("tcp://gpu:2375")), "x", info, int(100e12)) == ()


def test_a_full_disk_is_found_before_anything_is_downloaded(
    engine: Engine,
    serve: Callable[..., LocalRegistry],
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve()
    name = server.add("tao/ssd", "1", random_layers(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, 1_200_000))
    seen: list[PullProgress] = []
    with pytest.raises(EnvironmentProblem, match=r"Only 1\.2 MB are free"):
        ensure(engine, name, environ, seen.append)
    assert server.blobs_asked() == []
    assert seen[-1].state == "failed"


def test_the_disk_of_the_engine_is_found(tmp_path: Path) -> None:
    assert data_root({"DockerRootDir": str(tmp_path)}) == tmp_path
    assert data_root({"DockerRootDir": str(tmp_path), "OperatingSystem": "Docker Desktop"}) is None
    assert data_root({"DockerRootDir": "/nowhere"}) is None
    assert data_root({}) is None
    snapshotter = [["driver-type", "io.containerd.snapshotter.v1"]]
    found = data_root({"DockerRootDir": str(tmp_path), "DriverStatus": snapshotter})
    assert found != tmp_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("busybox", ("docker.io", "busybox", "latest", "")),
        ("busybox:1.35", ("docker.io", "busybox", "1.35", "")),
        ("ada/tao:1", ("docker.io", "ada/tao", "1", "")),
        ("docker.io/ada/tao", ("docker.io", "ada/tao", "latest", "")),
        ("nvcr.io/nvidia/tao/tao-toolkit:5.0.0-pyt", ("nvcr.io", "nvidia/tao/tao-toolkit", "5.0.0-pyt", "")),
        ("localhost/x", ("localhost", "x", "latest", "")),
        ("127.0.0.1:5000/x", ("127.0.0.1:5000", "x", "latest", "")),
        ("gpu:5000/a/b:c", ("gpu:5000", "a/b", "c", "")),
        ("nvcr.io/a@sha256:12", ("nvcr.io", "a", "", "sha256:12")),
        ("nvcr.io/a:t@sha256:12", ("nvcr.io", "a", "t", "sha256:12")),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, parts: tuple[str, ...]) -> None:
    name = parse_name(text)
    assert (name.registry, name.repository, name.tag, name.digest) == parts


def test_the_size_is_asked_without_giving_the_login_to_others(serve: Callable[..., LocalRegistry]) -> None:
    """The token server may be anywhere; over plain HTTP elsewhere it gets nothing."""
    asker = registry._Registry(parse_name("nvcr.io/a:b"), login.Credentials("nvcr.io", "u", "p"))
    with pytest.raises(ValueError, match="isn't secured"):
        asker._log_in('Bearer realm="http://evil.example/token",service="x"')


def test_a_silent_or_odd_registry_only_leaves_the_size_unknown(serve: Callable[..., LocalRegistry]) -> None:
    server = serve()
    name = parse_name(server.add("tao/ssd", "1", random_layers(2, 10)))
    assert len(registry.layer_sizes(name, None)) == 2
    for refusal in ((500, b""), (200, b"[]"), (200, b"{}"), (200, b"junk"), (200, b'{"manifests": [1]}')):
        server.refusal = refusal
        assert registry.layer_sizes(name, None) == {}
    server.close()
    assert registry.layer_sizes(name, None) == {}
    assert registry.layer_sizes(parse_name("nohost.invalid/x"), None) == {}


def test_finding_an_image_loads_nothing_that_only_pulls_need() -> None:
    import subprocess

    code = (
        "import sys; import taomagic.launcher.containers.images; "
        "print(sorted({'http.client', 'urllib.request', 'ssl', 'subprocess'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_everything_that_the_launcher_needs_is_public() -> None:
    assert {"ImageFacts", "PullProgress", "ensure", "find"} <= set(images.__all__)
