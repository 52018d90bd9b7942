from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.command import Command, parse_command
from taomagic.launcher.containers import container
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.container import (
    ALL_GPUS,
    EngineFacts,
    create_body,
    gpu_warning,
    gpus_wanted,
)
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.frames import frames
from taomagic.launcher.containers.starting import refuse_quick_mode
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap

from .images import Docker, busybox_tree, make_image

PLAIN = EngineFacts()


@pytest.fixture
def someone(monkeypatch: pytest.MonkeyPatch) -> str:
    """The caller is an ordinary person, whoever runs the tests."""
    monkeypatch.setattr(container, "caller_id", lambda: "1234:4321")
    return "1234:4321"


def command(*words: str) -> Command:
    return parse_command(list(words))


def body(
    context: Context,
    *words: str,
    image: str = "image",
    engine: EngineFacts = PLAIN,
    release: str = "5.0.0",
    entrypoint: list[str] | None = None,
) -> dict[str, Any]:
    return create_body(
        command(*words), context, image, job_id="j1", engine=engine, release=release, entrypoint=entrypoint
    )


def env(of: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in of["Env"])


class TestBody:
    @given(
        words=st.lists(
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1)
        )
    )
    def test_words_reach_the_container_untouched(self, words: list[str]) -> None:
        context = Context(Path("/p"), Path("/p"), {}, MountMap())
        wanted = Command("run", "model", "ssd", "run", tuple(words), ("run", *words))
        made = create_body(wanted, context, "i", job_id="j", engine=PLAIN)
        assert made["Cmd"] == words
        assert "Entrypoint" not in made

    def test_task_is_the_program_and_the_key_is_in_no_label(self, context: Context) -> None:
        made = body(context, "ssd", "train", "-e", "/a b", "-k", "SECRET")
        assert made["Cmd"] == ["ssd", "train", "-e", "/a b", "-k", "SECRET"]
        assert made["Labels"] == {"taomagic.job": "j1", "taomagic.project": str(context.project_dir)}
        del made["Cmd"]
        assert "SECRET" not in str(made)

    def test_no_terminal_and_no_removal_before_the_end_is_read(self, context: Context) -> None:
        for options in ({}, {"tty": True}, {"tty": False}):
            made = body(replace(context, mounts=MountMap((), {}, options)), "ssd", "run", "true")
            assert [made[key] for key in ("Tty", "OpenStdin", "AttachStdin", "AttachStdout")] == [False] * 4
            assert made["HostConfig"]["AutoRemove"] is False

    @pytest.mark.parametrize(
        ("entrypoint", "emptied"),
        [
            (None, False),
            ([], False),
            (["/opt/nvidia/nvidia_entrypoint.sh"], False),
            (["/usr/bin/env", "bash"], False),
            (["/bin/bash", "/opt/start.sh"], False),
            (["/bin/bash"], True),
            (["sh"], True),
            (["/bin/bash", "-l"], True),
            (["/bin/sh", "-c"], True),
            (["/bin/sh", "-c", "/opt/start.sh"], True),
            (["/bin/sh", "-ec", 'setup; exec "$@"', "--"], False),
        ],
    )
    def test_only_a_shell_that_would_not_run_the_task_is_taken_out_of_the_way(
        self, context: Context, entrypoint: list[str] | None, emptied: bool
    ) -> None:
        made = body(context, "ssd", "run", "ls", entrypoint=entrypoint)
        assert made.get("Entrypoint") == ([""] if emptied else None)

    @pytest.mark.parametrize(
        ("release", "told"),
        [
            ("5.5.0", False),
            ("6.25.9", False),
            ("6.25.11", True),
            ("6.25.11.1", True),
            ("6.26.3", True),
            ("7.0.0", True),
            ("", False),
            ("mine", False),
        ],
    )
    def test_containers_of_newer_releases_are_told_who_starts_them(
        self, context: Context, release: str, told: bool
    ) -> None:
        assert (
            env(body(context, "ssd", "run", "x", release=release)).get("TAO_CLIENT_TYPE") == "launcher"
        ) == told

    def test_nothing_of_this_environment_reaches_the_container(self, context: Context, someone: str) -> None:
        context = replace(
            context, environ={**context.environ, "TELEMETRY_OPT_OUT": "yes", "NGC_API_KEY": "SECRET"}
        )
        assert set(env(body(context, "ssd", "run", "x"))) == {"HOME", "USER", "LOGNAME"}
        context = replace(context, mounts=MountMap((), {"TELEMETRY_OPT_OUT": "yes"}))
        assert env(body(context, "ssd", "run", "x"))["TELEMETRY_OPT_OUT"] == "yes"

    def test_volumes_win_over_the_map(self, context: Context) -> None:
        context = replace(context, mounts=MountMap((("/a", "/data"), ("/b", "/b"))))
        made = body(context, "ssd", "train", "--volume", "/c:/data/", "--volume=d:/d", "-e", "x")
        assert {mount["Target"]: mount["Source"] for mount in made["HostConfig"]["Mounts"]} == {
            "/data": "/c",
            "/b": "/b",
            "/d": f"{context.cwd}/d",
        }
        assert not any("volume" in word for word in made["Cmd"])


class TestPerson:
    def test_caller_is_at_home_by_default(self, context: Context, someone: str) -> None:
        context = replace(context, environ={"USER": "mei"})
        made = body(context, "ssd", "run", "x")
        assert made["User"] == someone
        assert env(made) == {"HOME": "/home/mei", "USER": "mei", "LOGNAME": "mei"}
        assert made["HostConfig"]["Tmpfs"] == {"/home/mei": "exec,mode=0700,uid=1234,gid=4321"}

    @pytest.mark.parametrize("name", ["", "root", "mei ling", "../../etc", "梅"])
    def test_name_that_could_be_no_folder_is_not_used(
        self, context: Context, someone: str, name: str
    ) -> None:
        assert env(body(replace(context, environ={"USER": name}), "ssd", "run", "x"))["HOME"] == "/home/tao"

    @pytest.mark.parametrize("user", ["0:0", "0", "root", "0:1000", "ubuntu", "root:root"])
    def test_root_and_known_users_keep_their_homes(self, context: Context, someone: str, user: str) -> None:
        made = body(replace(context, mounts=MountMap((), {}, {"user": user})), "ssd", "run", "x")
        assert made["User"] == user
        assert made["Env"] == []
        assert "Tmpfs" not in made["HostConfig"]

    def test_user_of_the_map_wins_and_does_not_bear_our_name(self, context: Context, someone: str) -> None:
        context = replace(context, environ={"USER": "mei"}, mounts=MountMap((), {}, {"user": "7:staff"}))
        made = body(context, "ssd", "run", "x")
        assert made["User"] == "7:staff"
        assert made["HostConfig"]["Tmpfs"] == {"/home/tao": "exec,mode=0700,uid=7"}

    def test_variables_of_the_map_win(self, context: Context, someone: str) -> None:
        context = replace(context, mounts=MountMap((), {"HOME": "/data/home", "USER": "x"}))
        made = body(context, "ssd", "run", "x")
        assert env(made)["HOME"] == "/data/home"
        assert env(made)["USER"] == "x"
        assert "Tmpfs" not in made["HostConfig"]

    def test_mounted_home_is_used_as_it_is(self, context: Context, someone: str) -> None:
        context = replace(context, environ={"USER": "mei"}, mounts=MountMap((("/x", "/home/mei"),)))
        made = body(context, "ssd", "run", "x")
        assert env(made)["HOME"] == "/home/mei"
        assert "Tmpfs" not in made["HostConfig"]
        context = replace(context, mounts=MountMap((("/home", "/home"),)))
        made = body(context, "ssd", "run", "x")
        assert env(made)["HOME"] == "/var/home/mei"
        assert list(made["HostConfig"]["Tmpfs"]) == ["/var/home/mei"]

    def test_the_persons_other_groups_come_along(
        self, context: Context, someone: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getgroups", lambda: [4321, 50, 27])
        assert body(context, "ssd", "train")["HostConfig"]["GroupAdd"] == ["27", "50"]
        other = replace(context, mounts=MountMap((), {}, {"user": "7:8"}))
        assert "GroupAdd" not in body(other, "ssd", "train")["HostConfig"]

    def test_behind_a_rootless_engine_the_caller_is_root(self, context: Context, someone: str) -> None:
        rootless = EngineFacts(rootless=True)
        assert body(context, "ssd", "run", "x", engine=rootless)["User"] == "0:0"
        written = replace(context, mounts=MountMap((), {}, {"user": someone}))  # by %tao_env
        assert body(written, "ssd", "run", "x", engine=rootless)["User"] == "0:0"
        other = replace(context, mounts=MountMap((), {}, {"user": "5:5"}))
        assert body(other, "ssd", "run", "x", engine=rootless)["User"] == "5:5"

    def test_without_numbers_the_image_decides(
        self, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(container, "caller_id", lambda: "")  # Windows
        assert "User" not in body(context, "ssd", "run", "x")


class TestGpus:
    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            ("ssd train -e x", ALL_GPUS),
            ("ssd train --gpus 2 -e x", 2),
            ("ssd --gpus 2 train -e x", 2),
            ("ssd train --gpus=4", 4),
            ("ssd train --gpus 0", 0),
            ("ssd train --gpus 1 --gpu_index 2", 3),
            ("ssd train --gpu_index=0", 1),
            ("detectnet_v2 train --gpu_index 1 3 -e x 7", 4),
            ("ssd --gpu_index 0 1 train", 2),
            ("ssd train --gpus", ALL_GPUS),
            ("ssd train --gpus all", ALL_GPUS),
            ("dino train num_gpus=2", ALL_GPUS),
            ("dino train train.num_gpus=0", 0),
            ("dino train train.num_gpus=2 train.gpu_ids=[2,3]", 4),
            ("dino train gpu_ids=[0]", 1),
            ("dino train gpus=0", 0),
            ("dino train num_gpus_per_node=1", ALL_GPUS),
            ("ssd run nvidia-smi", ALL_GPUS),
            ("ssd run ssd train --gpus 1", 1),
        ],
    )
    def test_numbers_are_read_where_they_are_given(self, words: str, wanted: int) -> None:
        assert gpus_wanted(command(*words.split())) == wanted

    @pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"])
    def test_devices_chosen_by_a_variable_must_be_there(self, name: str) -> None:
        assert gpus_wanted(command("ssd", "train", "--gpus", "1"), {name: "3"}) == ALL_GPUS
        assert gpus_wanted(command("ssd", "train", "--gpus", "0"), {name: "3"}) == 0

    def test_request_is_made_where_the_engine_has_gpus(self, context: Context) -> None:
        with_gpus = EngineFacts(has_gpus=True)
        words = ("ssd", "train", "--gpus", "2")
        assert body(context, *words, engine=with_gpus)["HostConfig"]["DeviceRequests"] == [
            {"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}
        ]
        assert "DeviceRequests" not in body(context, *words)["HostConfig"]
        assert (
            "DeviceRequests" not in body(context, *words[:2], "--gpus", "0", engine=with_gpus)["HostConfig"]
        )

    def test_missing_gpu_is_told_with_the_way_out(self) -> None:
        assert "--backend process" in gpu_warning(command("ssd", "train"), PLAIN)
        assert "nvidia-container-toolkit" in gpu_warning(command("dino", "train"), PLAIN)
        assert gpu_warning(command("dino", "train", "train.num_gpus=0"), PLAIN) == ""
        assert gpu_warning(command("dino", "train"), EngineFacts(has_gpus=True)) == ""
        assert gpu_warning(command("dino", "run", "ls"), PLAIN) == ""

    def test_quick_training_is_refused_where_it_would_not_be_quick(self) -> None:
        quick = {"TAOMAGIC_STEPS_PER_EPOCH": "1"}
        with pytest.raises(EnvironmentProblem, match=r"nvcr.io/x would train whole epochs") as caught:
            refuse_quick_mode(command("ssd", "train"), quick, "nvcr.io/x")
        assert "--backend process" in caught.value.hint
        refuse_quick_mode(command("ssd", "evaluate"), quick, "nvcr.io/x")
        for value in ("", "0"):
            refuse_quick_mode(command("ssd", "train"), {"TAOMAGIC_STEPS_PER_EPOCH": value}, "nvcr.io/x")


class TestFacts:
    def test_engine_without_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda _name: None)
        info = {
            "InitBinary": "",
            "Runtimes": {"runc": {}},
            "SecurityOptions": ["name=seccomp,profile=default"],
        }
        assert EngineFacts.from_info(info, local=True) == EngineFacts(has_init=False)
        assert EngineFacts.from_info({}, local=False) == EngineFacts(local=False, has_init=False)

    @pytest.mark.parametrize(
        "info",
        [
            {"Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}},
            {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]},
        ],
    )
    def test_gpus_are_seen(self, info: dict[str, Any]) -> None:
        assert EngineFacts.from_info(info, local=False).has_gpus

    def test_hook_on_this_machine_counts_for_its_own_engine_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        assert EngineFacts.from_info({}, local=True).has_gpus
        assert not EngineFacts.from_info({}, local=False).has_gpus

    def test_rootless(self) -> None:
        options = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
        assert EngineFacts.from_info({"SecurityOptions": options}, local=True).rootless


@pytest.fixture
def run(docker_engine: Docker) -> Callable[[dict[str, Any]], tuple[int, str]]:
    """Run a container to its end; return exit code and output."""
    engine = Engine(Endpoint(docker_engine.host))

    def running(of: dict[str, Any]) -> tuple[int, str]:
        with created(engine, of) as name:
            engine.post(f"/containers/{name}/start")
            code = engine.post(f"/containers/{name}/wait")["StatusCode"]
            logs = engine.stream("GET", f"/containers/{name}/logs", stdout=True, stderr=True)
            return code, b"".join(data for _, data in frames(logs)).decode()

    return running


@contextlib.contextmanager
def created(engine: Engine, of: dict[str, Any]) -> Iterator[str]:
    name = str(engine.post("/containers/create", of)["Id"])
    try:
        yield name
    finally:
        engine.delete(f"/containers/{name}", force=True, v=True)


class TestOnAnEngine:
    def test_words_arrive_as_typed(
        self, context: Context, busybox_image: str, run: Callable[..., tuple[int, str]]
    ) -> None:
        words = ["a b", "$HOME", ";", "it's", '"q"', "`id`", "猫", "*", "\\", "-e", "--", "a\nb", "&&", "%s"]
        code, text = run(body(context, "ssd", "run", "printf", "<%s>", *words, image=busybox_image))
        assert (code, text) == (0, "".join(f"<{word}>" for word in words))

    @pytest.mark.parametrize("without_tmp", [False, True])
    def test_person_owns_what_is_written_and_is_at_home(
        self,
        context: Context,
        docker_engine: Docker,
        run: Callable[..., tuple[int, str]],
        someone: str,
        without_tmp: bool,
    ) -> None:
        tree = busybox_tree()
        if without_tmp:  # an image that has next to nothing
            del tree["tmp/"], tree["etc/passwd"], tree["etc/group"]
        image = make_image(docker_engine, "home-bare" if without_tmp else "home", tree)
        out = context.project_dir / "out: ü"
        out.mkdir()
        out.chmod(0o777)
        context = replace(context, environ={"USER": "mei"}, mounts=MountMap(((str(out), "/o u:t"),)))
        script = (
            "set -e; cd; pwd; echo $USER; id -u; id -g; mkdir -p ~/.cache/a; cp /bin/busybox ~/.cache/true; "
            "~/.cache/true; stat -c '%a %u' ~; echo hi > '/o u:t/file'; cat /proc/1/comm"
        )
        code, text = run(body(context, "ssd", "run", "sh", "-c", script, image=image))
        assert text.splitlines() == ["/home/mei", "mei", "1234", "4321", "700 1234", "docker-init"]
        assert code == 0
        status = (out / "file").stat()
        assert (status.st_uid, status.st_gid) == (1234, 4321)

    def test_folder_mounted_in_the_home_is_seen_there(
        self,
        context: Context,
        busybox_image: str,
        run: Callable[..., tuple[int, str]],
        someone: str,
    ) -> None:
        (context.project_dir / "cached").touch()
        context = replace(
            context,
            environ={"USER": "mei"},
            mounts=MountMap(((str(context.project_dir), "/home/mei/.cache/torch"),)),
        )
        script = "ls ~/.cache/torch && echo x > ~/.new && ls -A ~"
        code, text = run(body(context, "ssd", "run", "sh", "-c", script, image=busybox_image))
        assert (code, text.split()) == (0, ["cached", ".cache", ".new"])

    def test_bare_shell_as_entry_point_does_not_read_the_task_as_a_script(
        self, context: Context, docker_engine: Docker, run: Callable[..., tuple[int, str]]
    ) -> None:
        image = make_image(docker_engine, "bare-shell", busybox_tree(), ['ENTRYPOINT ["/bin/sh"]'])
        made = body(context, "ssd", "run", "echo", "hi", image=image, entrypoint=["/bin/sh"])
        assert run(made) == (0, "hi\n")
        assert run(body(context, "ssd", "run", "echo", "hi", image=image))[0] != 0

    def test_gpus_are_requested_as_docker_itself_does(
        self, context: Context, busybox_image: str, docker_engine: Docker
    ) -> None:
        facts = EngineFacts(has_gpus=True)
        for words, option in (((), "all"), (("--gpus", "2"), "2"), (("--gpu_index", "0", "2"), "3")):
            made = body(context, "ssd", "train", *words, image=busybox_image, engine=facts)
            theirs = docker_engine("create", "--gpus", option, busybox_image)
            try:
                with created(Engine(Endpoint(docker_engine.host)), made) as ours:
                    wanted, found = (
                        docker_engine.inspect(name)["HostConfig"]["DeviceRequests"] for name in (theirs, ours)
                    )
            finally:
                docker_engine("rm", "-f", theirs)
            keys = ("Driver", "Count", "DeviceIDs", "Capabilities")
            assert [[request[key] for key in keys] for request in found] == [
                [request[key] for key in keys] for request in wanted
            ]

    def test_missing_source_is_an_error_and_is_not_created(
        self, context: Context, busybox_image: str, docker_engine: Docker
    ) -> None:
        missing = context.project_dir / "missing"
        context = replace(context, mounts=MountMap(((str(missing), "/data"),)))
        made = body(context, "ssd", "run", "true", image=busybox_image)
        engine = Engine(Endpoint(docker_engine.host))
        with pytest.raises(EngineProblem, match="does not exist"), created(engine, made):
            pass
        assert not missing.exists()

    def test_nested_mounts_show_the_inner_folder_whatever_their_order(
        self, context: Context, busybox_image: str, run: Callable[..., tuple[int, str]]
    ) -> None:
        project = context.project_dir
        for folder in ("a", "b"):
            (project / folder).mkdir()
            (project / folder / folder).touch()
        pairs = ((str(project / "a"), "/w/in"), (str(project), "/w"), (str(project / "b"), "/w/in/deep"))
        (project / "in").mkdir()
        (project / "a" / "deep").mkdir()
        for mounts in (pairs, pairs[::-1]):
            made = body(
                replace(context, mounts=MountMap(mounts)), "ssd", "run", "find", "/w/in", image=busybox_image
            )
            assert sorted(run(made)[1].split()) == ["/w/in", "/w/in/a", "/w/in/deep", "/w/in/deep/b"]

    def test_engine_facts_are_those_of_the_engine(self, docker_engine: Docker) -> None:
        found = EngineFacts.from_info(Engine(Endpoint(docker_engine.host)).get("/info"), local=True)
        assert found.has_init
        runtimes = docker_engine("info", "--format", "{{json .Runtimes}}")
        if "nvidia" in runtimes:
            assert found.has_gpus


def test_results_of_a_real_caller_belong_to_them(
    context: Context, busybox_image: str, run: Callable[..., tuple[int, str]]
) -> None:
    made = body(context, "ssd", "run", "touch", "/workspace/tao-experiments/x", image=busybox_image)
    assert run(made) == (0, "")
    status = (context.project_dir / "x").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert stat.S_ISREG(status.st_mode)
