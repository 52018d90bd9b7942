from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taomagic.errors import SpecProblem
from taomagic.spec import detectnet_v2_pb2
from taomagic.spec.parse import parse_spec, read_spec
from taomagic.spec.ssd_pb2 import DatasetExportConfig, Experiment

from .conftest import DOCUMENTED


def _refused(text: str) -> SpecProblem:
    with pytest.raises(SpecProblem) as caught:
        parse_spec(text, Experiment, name="spec.txt")
    return caught.value


def test_knows_the_line_of_every_field(documented: str) -> None:
    spec = parse_spec(documented, Experiment, name="spec.txt")
    lines = documented.split("\n")
    for field, text in {
        "random_seed": "random_seed: 42",
        "ssd_config": "ssd_config {",
        "ssd_config.scales": "scales:",
        "training_config.batch_size_per_gpu": "batch_size_per_gpu: 16",
        "training_config.learning_rate.soft_start_annealing_schedule.annealing": "annealing: 0.8",
        "augmentation_config.image_mean[2].value": "value: 123.7",
        "dataset_config.data_sources[0].tfrecords_path": "tfrecords_path:",
        "dataset_config.data_sources.tfrecords_path": "tfrecords_path:",
        "dataset_config.target_class_mapping[4].key": 'key: "person_sitting"',
        "dataset_config.validation_data_sources.image_directory_path": "/path/to/val/images",
    }.items():
        line = spec.line_of(field)
        assert line is not None, field
        assert text in lines[line - 1], field
    assert spec.line_of("dataset_config.data_sources[1]") is None
    assert spec.line_of("nothing.of_the_kind") is None


@pytest.mark.parametrize(
    "text",
    [
        'ssd_config: { arch: "a" nlayers: 10 }',
        "ssd_config < arch: 'a', nlayers: 10; >",
        'ssd_config {\n# comment\n\narch: "a"  # another\nnlayers : 10\n}',
        'ssd_config { arch: "" "a" \'\'\n nlayers: 0xa }',
    ],
)
def test_reads_all_spellings_of_protobuf_text(text: str) -> None:
    spec = parse_spec(text, Experiment, name="spec.txt")
    assert (spec.message.ssd_config.arch, spec.message.ssd_config.nlayers) == ("a", 10)
    assert spec.line_of("ssd_config.nlayers") == text.count("\n", 0, text.index("nlayers")) + 1


def test_counts_the_lines_of_lists() -> None:
    spec = parse_spec(
        "ssd_config {\nfreeze_blocks: [0,\n1]\nfreeze_blocks: 2\n}", Experiment, name="spec.txt"
    )
    assert list(spec.message.ssd_config.freeze_blocks) == [0, 1, 2]
    assert [spec.line_of(f"ssd_config.freeze_blocks[{i}]") for i in range(4)] == [2, 3, 4, None]


def test_counts_the_lines_of_lists_of_blocks() -> None:
    text = 'dataset_config {\ndata_sources: [\n{ tfrecords_path: "a" },\n{ tfrecords_path: "b" }\n]\n}'
    spec = parse_spec(text, Experiment, name="spec.txt")
    assert spec.line_of("dataset_config.data_sources[1].tfrecords_path") == 4


@pytest.mark.parametrize("value", ["true", "True", "1", "t"])
def test_takes_every_spelling_of_true(value: str) -> None:
    assert parse_spec(
        f"ssd_config {{ clip_boxes: {value} }}", Experiment, name=""
    ).message.ssd_config.clip_boxes


@pytest.mark.parametrize("value", ["L2", "2"])
def test_takes_enums_by_name_and_number(value: str) -> None:
    text = f"training_config {{ regularizer {{ type: {value} }} }}"
    assert parse_spec(text, Experiment, name="").message.training_config.regularizer.type == 2


def test_names_the_nearest_field() -> None:
    problem = _refused("random_seed: 1\n\nssd_config {\n  aspect_ratio: 3\n}")
    assert problem.line == 4
    assert problem.message == "unknown field 'aspect_ratio' in ssd_config"
    assert "Did you mean aspect_ratios?" in problem.hint
    assert "two_boxes_for_ar1" in problem.hint


def test_names_the_block_where_a_field_belongs() -> None:
    problem = _refused("training_config { batch_size: 4 }")
    assert "batch_size belongs in eval_config." in problem.hint


def test_says_at_which_level_a_field_is_unknown() -> None:
    assert _refused("epochs: 4").message == "unknown field 'epochs' in the file's top level"


def test_knows_the_fields_that_left_after_tlt_2() -> None:
    assert "TLT 2.0 had focal_loss_alpha" in _refused("ssd_config { focal_loss_alpha: 0.25 }").hint


def test_lists_the_values_of_an_enum() -> None:
    problem = _refused("training_config {\n regularizer { type: L3 } }")
    assert problem.line == 2
    assert "there is no value L3" in problem.message
    assert "NO_REG, L1, L2" in problem.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("ssd_config {\n arch: 'a'", "Expected", "not closed"),
        ("training_config {\n num_epochs: x\n}", "integer", "name: value"),
        ("training_config {\n num_epochs: -1\n}", "out of range", "name: value"),
        ("training_config {\n num_epochs: 1.5\n}", "integer", "name: value"),
        ("random_seed: 1\nrandom_seed: 2", "multiple", "Keep one"),
        ("ssd_config {}\ndssd_config {}", "along with", "Keep one"),
        ("ssd_config {\n arch: “resnet”\n}", "unexpected character '“'", "plain quotes"),
        ("random_seed: 1\nrandom_seed：42", "unexpected character '：'", "plain quotes"),
        ("ssd_config {\n arch: resnet\n}", "string", "name: value"),
        ("\n}", "Expected", "name: value"),
    ],
)
def test_explains_syntax_errors(text: str, message: str, hint: str) -> None:
    problem = _refused(text)
    assert message in problem.message
    assert hint in problem.hint
    assert problem.line is not None
    assert "taomagic.ssd" not in problem.message


@given(st.text(max_size=200))
@example("\ud800")
@example("a" * 5000 + "{" * 5000)
@example("ssd_config {" * 3000)
@settings(max_examples=200, deadline=None)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for message_type in (Experiment, DatasetExportConfig):
        try:
            spec = parse_spec(text, message_type, name="spec.txt")
        except SpecProblem:
            continue
        spec.line_of("ssd_config")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # protobuf warns of "\\q" and takes it
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_edit_of_a_real_spec_is_parsed_or_refused(data: st.DataObject) -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    inserted = data.draw(st.text("{}[]<>:,;'\"#\\\n\0 ab1.-+e%é", max_size=8))
    try:
        spec = parse_spec(text[:start] + inserted + text[end:], Experiment, name="spec.txt")
    except SpecProblem:
        return
    assert (spec.line_of("random_seed") is not None) == spec.message.HasField("random_seed")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    with contextlib.suppress(SpecProblem):
        read_spec(path, Experiment)


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: b"\xef\xbb\xbf" + t.encode(),
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.replace("\n", "\r").encode(),
    ],
)
def test_byte_order_marks_and_other_line_ends_make_no_difference(
    tmp_path: Path, documented: str, encode
) -> None:
    path = tmp_path / "spec.txt"
    path.write_bytes(encode(documented))
    spec = read_spec(path, Experiment)
    assert spec.text == documented
    assert spec.line_of("training_config.num_epochs") == documented.split("\n").index("num_epochs: 80") + 1


def test_chinese_comments_and_paths_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "spec.txt"
    path.write_text(
        '# 训练\ndataset_config { data_sources { tfrecords_path: "/数据/a*" } }\n', encoding="utf-8"
    )
    assert read_spec(path, Experiment).message.dataset_config.data_sources[0].tfrecords_path == "/数据/a*"


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        ("random_seed: 1\n# caf\xe9\n".encode("latin-1"), 2, "not UTF-8 text (byte 0xe9)", "UTF-8"),
        ("random_seed: 1".encode("utf-16"), 1, "UTF-16", "UTF-8"),
        (b"random_seed: 1\n\0", 2, "not text", ".txt"),
        (b" " * 1_000_001, None, "too large", "-m"),
    ],
)
def test_other_encodings_and_contents_are_named(
    tmp_path: Path, content: bytes, line: int | None, message: str, hint: str
) -> None:
    path = tmp_path / "spec.txt"
    path.write_bytes(content)
    with pytest.raises(SpecProblem) as caught:
        read_spec(path, Experiment, shown_as="/container/spec.txt")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert (caught.value.path, caught.value.line) == ("/container/spec.txt", line)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "ssd_train.txt").touch()
    with pytest.raises(SpecProblem, match="no such file") as caught:
        read_spec(tmp_path / "ssd_tran.txt", Experiment)
    assert caught.value.hint == "Did you mean ssd_train.txt?"


def test_a_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    with pytest.raises(SpecProblem, match="no such file") as caught:
        read_spec(tmp_path / "ssd.yaml", Experiment)
    assert "other.txt" in caught.value.hint


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SpecProblem, match="no such file") as caught:
        read_spec(tmp_path / "specs" / "ssd.txt", Experiment)
    assert "doesn't exist either" in caught.value.hint


def test_a_folder_is_not_a_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecProblem, match="this is a folder"):
        read_spec(tmp_path, Experiment)


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(SpecProblem):
        read_spec(Path("a\0b"), Experiment)


def test_a_file_used_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpecProblem):
        read_spec(tmp_path / "file" / "spec.txt", Experiment)


def test_the_value_of_a_map_is_found_by_its_key() -> None:
    text = (
        "postprocessing_config {\n"
        "  target_class_config {\n    key: 'car'\n    value { clustering_config { dbscan_eps: 0.1 } }\n  }\n"
        '  target_class_config: {\n    key: "bus"\n    value: {\n      clustering_config {\n        dbscan_eps: 2\n'
        "      }\n    }\n  }\n}\n"
    )
    spec = parse_spec(text, detectnet_v2_pb2.Experiment, name="x")
    field = 'postprocessing_config.target_class_config["{}"].clustering_config.dbscan_eps'
    assert spec.line_of(field.format("car")) == 4
    assert spec.line_of(field.format("bus")) == 10
    assert spec.line_of(field.format("van")) is None
