from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.launcher.completion_spec import spec_words


@pytest.mark.parametrize(
    ("name", "text", "word", "expected"),
    [
        ("detectnet_v2_train.txt", "bbox_r", "bbox_r", ["bbox_rasterizer_config"]),
        ("ssd_train.txt", "ssd", "ssd", ["ssd_config"]),
        ("detectnet_v2_inference.txt", "inf", "inf", ["inferencer_config"]),
        ("detectnet_v2_tfrecords.txt", "kitti", "kitti", ["kitti_config"]),
        # What is written counts more than the name.
        ("my.txt", "cost_function_config {\n  max", "max", ["max_objective_weight"]),
        ("my.txt", "bbox_rasterizer_config {\n}\npost", "post", ["postprocessing_config"]),
        (
            "my.txt",
            'cost_function_config {\n}\npostprocessing_config {\n  target_class_config {\n    key: "a {"  # {\n'
            "    value: {\n      clustering_config {\n        dbscan_e",
            "dbscan_e",
            ["dbscan_eps"],
        ),
        ("x.txt", "bbox_rasterizer_config {\n}\nmodel_config {\n  load_graph: ", "", ["true", "false"]),
        ("x.txt", "evaluation_config {\n  average_precision_mode: I", "I", ["INTEGRATE"]),
        (
            "x.txt",
            "bbox_rasterizer_config {\n}\nevaluation_config { average_precision_mode: S",
            "S",
            ["SAMPLE"],
        ),
        ("detectnet_v2_train.txt", 'dataset_config {\n  image_extension: "p', "", []),
        ("detectnet_v2_train.txt", "# tr", "", []),
        ("detectnet_v2_train.txt", "no_such_block {\n  a", "a", []),
    ],
)
def test_fields_of_the_block_are_offered(name: str, text: str, word: str, expected: list[str]) -> None:
    found, words = spec_words(name, text)
    assert found == word
    assert list(words) == expected


@given(st.text(alphabet="ab_ {}:\"'#\n\\", max_size=60))
def test_any_text_is_taken(text: str) -> None:
    word, _ = spec_words("a.txt", text)
    assert text.endswith(word)
