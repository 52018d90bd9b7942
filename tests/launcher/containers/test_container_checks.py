from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem, SpecProblem, TaoError, UsageProblem
from taomagic.launcher import disk, preflight
from taomagic.launcher.command import parse_command
from taomagic.launcher.containers.checks import check
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT as ROOT


@pytest.fixture
def ready(context: Context) -> Context:
    """A project with a spec, mounted as NVIDIA's notebooks do it, and no variables but ours."""
    specs = context.project_dir / "specs"
    specs.mkdir()
    (specs / "train.txt").write_text("random_seed: 42\n")
    return context


def warnings(context: Context, *words: str, local: bool = True) -> tuple[str, ...]:
    return check(parse_command(list(words)), context, local=local)


def problem(context: Context, *words: str, local: bool = True) -> TaoError:
    with pytest.raises(TaoError) as caught:
        warnings(context, *words, local=local)
    return caught.value


def mounted(context: Context, *mounts: tuple[str, str]) -> Context:
    return replace(context, mounts=MountMap(mounts))


def test_right_command_has_no_complaint(ready: Context) -> None:
    words = (
        "detectnet_v2",
        "train",
        "-e",
        f"{ROOT}/specs/train.txt",
        "-r",
        f"{ROOT}/out",
        "-k",
        "/key",
        "--gpus",
        "1",
    )
    assert warnings(ready, *words) == ()
    assert warnings(ready, "ssd", "run", "ls", ROOT) == ()
    assert warnings(ready, "dino", "train", "-e", f"{ROOT}/specs/train.txt", f"results_dir={ROOT}/out") == ()


@pytest.mark.parametrize("flag", ["-e", "--experiment_spec", "-r", "-m", "-i", "--cal_image_dir", "-o"])
@pytest.mark.parametrize("joined", [False, True])
def test_path_of_this_machine_is_refused_with_the_one_to_write(
    ready: Context, flag: str, joined: bool
) -> None:
    here = f"{ready.project_dir}/specs/train.txt"
    words = (f"{flag}={here}",) if joined else (flag, here)
    found = problem(ready, "unet", "train", *words)
    assert isinstance(found, UsageProblem)
    assert found.where == flag
    assert f"{here} is a path of this machine; in the container it is {ROOT}/specs/train.txt" in found.message


def test_mix_up_is_found_in_settings_and_in_programs_and_behind_a_tilde(
    ready: Context, project: Path
) -> None:
    home = Path(os.environ["HOME"])
    folder = home / "plain"
    folder.mkdir()
    context = mounted(ready, (str(folder), "/data"))
    assert (
        "it is /data/x.pth" in problem(context, "dino", "train", f"train.pretrained={folder}/x.pth").message
    )
    assert "it is /data/a" in problem(context, "dino", "train", f"dataset.dirs=[{folder}/a,/data/b]").message
    assert "it is /data" in problem(context, "ssd", "run", "ls", str(folder)).message
    assert "it is /data/y" in problem(context, "unet", "train", "-r", "~/plain/y").message


def test_nested_mount_decides_the_name_in_the_container(ready: Context) -> None:
    project = str(ready.project_dir)
    context = mounted(ready, (project, ROOT), (f"{project}/specs", f"{ROOT}/ssd/specs"))
    assert (
        f"it is {ROOT}/ssd/specs/train.txt"
        in problem(context, "ssd", "train", "-e", f"{project}/specs/train.txt").message
    )


def test_same_path_on_both_sides_is_no_mix_up(ready: Context) -> None:
    project = str(ready.project_dir)
    context = mounted(ready, (project, project))
    assert warnings(context, "ssd", "train", "-e", f"{project}/specs/train.txt", "-r", f"{project}/out") == ()


def test_whole_disk_mounted_does_not_claim_paths_of_the_image(ready: Context) -> None:
    context = mounted(ready, ("/", "/host"))
    assert warnings(context, "ssd", "run", "/bin/sh", "/opt/nvidia/x.sh", "/usr/bin/env") == ()
    assert warnings(context, "ssd", "run", "ls", "/no_such_folder") == (
        "No mount of the map covers /no_such_folder. Mounted are /host (here: /).",
    )
    assert "it is /host/home" in problem(context, "ssd", "run", "ls", "/home").message


def test_missing_spec_shows_its_place_here_and_the_nearest_name(ready: Context) -> None:
    found = problem(ready, "unet", "train", "-e", f"{ROOT}/specs/trian.txt")
    assert isinstance(found, SpecProblem)
    assert f"{ROOT}/specs/trian.txt (here: {ready.project_dir}/specs/trian.txt)" in str(found)
    assert "Did you mean train.txt?" in found.hint
    assert "exists up to" in problem(ready, "unet", "train", "-e", f"{ROOT}/no/x.txt").hint
    assert "is a folder" in problem(ready, "unet", "train", "-e", f"{ROOT}/specs").message


def test_data_spec_of_dataset_convert_must_exist_but_may_be_a_folder(ready: Context) -> None:
    out = ("-o", f"{ROOT}/tf")
    assert (
        "no such file"
        in problem(ready, "detectnet_v2", "dataset_convert", "-d", f"{ROOT}/x.txt", *out).message
    )
    assert warnings(ready, "detectnet_v2", "dataset_convert", "-d", f"{ROOT}/specs", *out) == ()
    # Elsewhere -d is something else, and so is -e of the converter.
    assert warnings(ready, "converter", "-d", "3,384,1248", "-e", f"{ROOT}/new.trt") == ()


def test_spec_outside_of_every_mount(ready: Context, tmp_path: Path) -> None:
    found = problem(ready, "dino", "train", "-e", "/specs/train.yaml")
    assert "No mount shows this file" in found.message
    assert f"{ROOT} (here: {ready.project_dir})" in found.hint
    [warning] = warnings(ready, "dino", "train", "-e", "/workspace/examples/dino/train.yaml")
    assert "it must be in the image" in warning
    bare = mounted(ready)
    assert "%tao_env" in problem(bare, "ssd", "train", "-e", f"{ROOT}/specs/train.txt").hint
    (tmp_path / "elsewhere.txt").touch()
    assert "No mount shows" in problem(ready, "ssd", "train", "-e", f"{tmp_path}/elsewhere.txt").message


def test_relative_spec_begins_in_the_image(ready: Context) -> None:
    [warning] = warnings(ready, "unet", "train", "-e", "specs/train.txt")
    assert f"Better write {ROOT}/specs/train.txt" in warning
    assert warnings(ready, "unet", "train", "-e", "train.yaml") == ()


def test_results_outside_of_every_mount_will_be_lost(ready: Context) -> None:
    for words in (("-r", "/results"), ("results_dir=/results",), ("train.results_dir=/results",)):
        [warning] = warnings(ready, "dino", "train", *words)
        assert "lost with the container" in warning


def test_missing_model_is_a_warning_with_the_nearest_name(ready: Context) -> None:
    (ready.project_dir / "model.hdf5").touch()
    [warning] = warnings(ready, "unet", "evaluate", "-m", f"{ROOT}/modle.hdf5")
    assert "Did you mean model.hdf5?" in warning
    assert warnings(ready, "unet", "evaluate", "-m", f"{ROOT}/model.hdf5") == ()
    assert warnings(ready, "unet", "evaluate", "-m", f"{ROOT}/modle.hdf5", local=False) == ()


def test_other_paths_that_the_container_will_not_see(ready: Context, tmp_path: Path) -> None:
    [warning] = warnings(ready, "unet", "evaluate", "-i", str(tmp_path))
    assert "no mount shows it" in warning
    [warning] = warnings(ready, "unet", "evaluate", "-i", "/data/images")
    assert "No mount of the map covers /data/images" in warning
    assert warnings(ready, "unet", "evaluate", "-i", "/opt/nvidia/images") == ()


def test_paths_of_this_machine_in_a_spec_are_told_with_their_line(ready: Context, tmp_path: Path) -> None:
    (tmp_path / "weights.hdf5").touch()
    project = ready.project_dir
    (project / "specs" / "train.txt").write_text(
        f'# {project}/comment\nimages: "{project}/data"  # why\nfine: "{ROOT}/data"\n'
        f"model: {tmp_path}/weights.hdf5\nurl: https://host/usr/share\nnull: /dev/null\n"
    )
    first, second = warnings(ready, "unet", "train", "-e", f"{ROOT}/specs/train.txt")
    assert first == (
        f"{ROOT}/specs/train.txt:2: {project}/data is a path of this machine; in the container it is {ROOT}/data"
    )
    assert second.startswith(f"{ROOT}/specs/train.txt:4: {tmp_path}/weights.hdf5 is here")


def test_many_paths_in_a_spec_do_not_flood_the_screen(ready: Context) -> None:
    lines = "".join(f'a: "{ready.project_dir}/{number}"\n' for number in range(40))
    (ready.project_dir / "specs" / "train.txt").write_text(lines)
    found = warnings(ready, "unet", "train", "-e", f"{ROOT}/specs/train.txt")
    assert len(found) == 6
    assert "35 more" in found[-1]


def test_missing_folder_names_what_would_create_it(ready: Context) -> None:
    context = mounted(ready, ("/no/such dir", "/data"))
    found = problem(context, "ssd", "run", "true")
    assert isinstance(found, EnvironmentProblem)
    assert "/no/such dir" in found.message
    assert "mkdir -p '/no/such dir'" in found.hint
    assert "%tao_env" in problem(mounted(ready, ("/no/proj", ROOT)), "ssd", "run", "true").hint
    assert "aren't expanded" in problem(mounted(ready, ("$HOME/x", "/data")), "ssd", "run", "true").hint
    assert warnings(context, "ssd", "run", "true", local=False) == ()


def test_missing_folder_names_the_map(ready: Context) -> None:
    context = replace(
        mounted(ready, ("/no/such", "/data")), environ={**ready.environ, "LAUNCHER_MOUNTS": "/some/map.json"}
    )
    assert problem(context, "ssd", "run", "true").where == "/some/map.json"
    of_volume = replace(context, mounts=MountMap())
    assert problem(of_volume, "ssd", "run", "true", "--volume", "no/such:/data").where == "--volume"


def test_volumes_count_as_mounts(ready: Context, tmp_path: Path) -> None:
    assert warnings(ready, "unet", "train", f"--volume={tmp_path}:/out", "-r", "/out/x") == ()
    assert (
        "is missing: /no/such"
        in problem(ready, "unet", "train", "--volume", "/no/such:/out", "-r", "/out").message
    )


def test_relative_and_home_sources_count_from_where_we_are(ready: Context) -> None:
    context = mounted(ready, ("specs", "/specs"), ("~", "/home/me"))
    assert warnings(context, "dino", "train", "-e", "/specs/train.txt", "-r", "/home/me/out") == ()
    found = problem(context, "dino", "train", "-e", f"{ready.project_dir}/specs/train.txt")
    assert "it is /specs/train.txt" in found.message


def test_variable_in_a_destination_is_told(ready: Context) -> None:
    [warning] = warnings(mounted(ready, (str(ready.project_dir), "/workspace/$NET")), "ssd", "run", "true")
    assert "no variables" in warning


def test_folder_that_the_caller_may_not_write(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("unet", "train", "-r", f"{ROOT}/out/x")
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = problem(ready, *words)
    assert "You may not write" in found.message
    assert "chown" in found.hint
    other = replace(ready, mounts=MountMap(ready.mounts.mounts, {}, {"user": "4321:4321"}))
    assert warnings(other, *words) == ()


def test_little_space_is_a_warning(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOW_DISK_BYTES", 2**62)
    [warning] = warnings(ready, "unet", "train", "-r", f"{ROOT}/out")
    assert "MB are free" in warning


def test_empty_word_means_an_unset_variable(ready: Context) -> None:
    assert "value of -e is empty" in problem(ready, "unet", "train", "-e", "").message


def test_key_that_looks_like_a_path_is_never_shown(ready: Context) -> None:
    key = f"{ready.project_dir}/SECRET"
    spec = ("-e", f"{ROOT}/specs/train.txt")
    for words in (("-k", key), (f"--key={key}",), (f"encryption_key={key}",)):
        assert "SECRET" not in str(warnings(ready, "unet", "train", *spec, *words))


def test_map_on_another_machine_is_checked_without_this_disk(ready: Context) -> None:
    context = mounted(ready, ("/srv/proj", ROOT))
    found = problem(context, "unet", "train", "-e", "/srv/proj/specs/a.txt", local=False)
    assert f"it is {ROOT}/specs/a.txt" in found.message
    assert (
        warnings(context, "unet", "train", "-e", f"{ROOT}/specs/a.txt", "-r", f"{ROOT}/out", local=False)
        == ()
    )


@pytest.mark.parametrize(
    "words",
    [
        ("-e", "x" * 300),
        ("-e", "/" + "x" * 300),
        ("-e", f"{ROOT}/{'x' * 300}"),
        ("-m", f"{ROOT}/{'x' * 300}"),
        ("-r", f"{ROOT}/{'x' * 300}"),
        (f"note=/{'x' * 300}",),
    ],
)
def test_word_too_long_for_a_path_is_no_crash(ready: Context, words: tuple[str, ...]) -> None:
    try:
        warnings(ready, "detectnet_v2", "train", *words)
    except TaoError:
        assert words[0] == "-e"


@pytest.fixture
def locked(ready: Context) -> Iterator[Path]:
    """A folder of somebody else's, which we may not look into."""
    folder = ready.project_dir / "locked"
    folder.mkdir()
    (folder / "train.txt").write_text("random_seed: 42\n")
    folder.chmod(0)
    before = os.geteuid()
    if before == 0:
        for each in (ready.project_dir, *ready.project_dir.parents):
            if each.is_relative_to("/tmp") and each != Path("/tmp"):
                each.chmod(0o755)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(before)
        folder.chmod(0o755)


@pytest.mark.parametrize("words", [("-m", "/root/x.tlt"), ("-e", f"{ROOT}/locked/train.txt"), ("x=/root/y",)])
def test_what_we_may_not_look_at_is_left_to_the_container(
    ready: Context, locked: Path, words: tuple[str, ...]
) -> None:
    assert warnings(ready, "detectnet_v2", "train", *words) == ()


def test_source_that_we_may_not_look_at_may_be_there(ready: Context, locked: Path) -> None:
    assert warnings(mounted(ready, (str(locked / "data"), "/data")), "ssd", "run", "ls") == ()


def test_embedded_engine_says_what_may_not_be_read(ready: Context, locked: Path) -> None:
    with pytest.raises(SpecProblem, match="You may not read"):
        preflight.check(
            parse_command(["ssd", "train", "-e", str(locked / "train.txt"), "-r", str(ready.project_dir)]),
            ready,
        )
