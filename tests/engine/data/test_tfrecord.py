"""TFRecords: what is written comes back, here and in an independent reader; damage is found and located."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tfrecord import example_pb2 as independent_pb2
from tfrecord.reader import tfrecord_loader

from taomagic.engine.data.tfrecord import (
    ByteStrings,
    Example,
    FeatureValue,
    Integers,
    TFRecordWriter,
    encode_example,
    index_path,
    parse_example,
    read_index,
    read_records,
)
from taomagic.errors import DataProblem

quick = hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, records: list[bytes]) -> TFRecordWriter:
    with TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    writer.write_index(index_path(path))
    return writer


@quick
@given(records=st.lists(st.binary(max_size=200), max_size=8))
def test_records_come_back_as_written(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "records"
    write(path, records)
    found = list(read_records(path))
    assert [record for _, record in found] == records
    assert [(offset, 16 + len(record)) for offset, record in found] == read_index(path)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
int64s = st.integers(-(2**63), 2**63 - 1)
features = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=10),
    st.one_of(
        st.binary(max_size=50),
        int64s,
        st.lists(int64s, max_size=5).map(Integers),
        st.lists(floats, max_size=5),
        st.lists(st.binary(max_size=30), max_size=5).map(ByteStrings),
    ),
    max_size=5,
)


@quick
@given(content=features)
def test_an_independent_parser_reads_the_examples(content: dict[str, object]) -> None:
    encoded = encode_example(content)  # type: ignore[arg-type]
    example = independent_pb2.Example.FromString(encoded)
    assert set(example.features.feature) == set(content)
    for name, value in content.items():
        feature = example.features.feature[name]
        found = [*feature.bytes_list.value, *feature.float_list.value, *feature.int64_list.value]
        assert found == (value if isinstance(value, list) else [value])


def test_the_independent_reader_reads_files_with_their_index(tmp_path: Path) -> None:
    path = tmp_path / "records"
    write(
        path,
        [
            encode_example({"name": b"first", "x": [1.5, 2.5]}),
            encode_example({"name": b"second", "x": [3.0]}),
        ],
    )
    # As one shard of one; without shards it begins at a record chosen by chance.
    features = {"name": "byte", "x": "float"}
    found = list(tfrecord_loader(str(path), str(index_path(path)), features, shard=(0, 1)))
    assert [bytes(one["name"]) for one in found] == [b"first", b"second"]
    assert [list(one["x"]) for one in found] == [[1.5, 2.5], [3.0]]


NUMBERS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=200).map(Integers),
    st.lists(st.floats(width=32, allow_nan=False), max_size=200),
    st.lists(st.binary(max_size=300), max_size=20).map(ByteStrings),
)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=200),
        st.one_of(st.binary(max_size=20_000), st.integers(-(2**63), 2**63 - 1), NUMBERS),
        max_size=20,
    )
)
def test_the_protobuf_library_reads_what_is_written_and_needs_no_byte_less(
    features: dict[str, FeatureValue],
) -> None:
    example = Example()
    example.features.SetInParent()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, Integers):
            feature.int64_list.SetInParent()
            feature.int64_list.value.extend(value)
        elif isinstance(value, ByteStrings):
            feature.bytes_list.SetInParent()
            feature.bytes_list.value.extend(value)
        else:
            feature.float_list.SetInParent()
            feature.float_list.value.extend(value)
    encoded = encode_example(features)
    assert Example.FromString(encoded) == example
    # The library orders the map in another way.
    assert len(encoded) == len(example.SerializeToString())


def test_the_index_has_offset_and_size_with_framing(tmp_path: Path) -> None:
    path = tmp_path / "records"
    write(path, [b"abc", b"", b"12345"])
    assert index_path(path).read_text() == "0 19\n19 16\n35 21\n"


@pytest.mark.parametrize(
    ("position", "message"),
    [(0, "length of a record is damaged"), (13, "wrong checksum"), (25, "length"), (33, "wrong")],
)
def test_damage_is_located(tmp_path: Path, position: int, message: str) -> None:
    path = tmp_path / "records"
    write(path, [b"abcd", b"efgh"])
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataProblem, match=message) as caught:
        list(read_records(path, shown_as="/workspace/records"))
    assert caught.value.where == f"/workspace/records, byte {0 if position < 20 else 20}"


@pytest.mark.parametrize("length", [3, 15, 25])
def test_a_cut_off_file_is_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "records"
    write(path, [b"abcd", b"efgh"])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataProblem):
        list(read_records(path))


def test_a_huge_length_is_not_believed(tmp_path: Path) -> None:
    from taomagic.engine.data.tfrecord import _masked_crc

    length = struct.pack("<Q", 1 << 60)
    path = tmp_path / "records"
    path.write_bytes(length + _masked_crc(length))
    with pytest.raises(DataProblem, match="claims"):
        list(read_records(path))


def test_missing_files_and_indexes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="can't be opened"):
        list(read_records(tmp_path / "none"))
    with pytest.raises(DataProblem, match="file idx-none of this"):
        read_index(tmp_path / "none")
    index_path(tmp_path / "odd").write_text("1 2 3\n")
    with pytest.raises(DataProblem, match="can't be read"):
        read_index(tmp_path / "odd")


def test_a_record_that_is_no_example_is_located() -> None:
    with pytest.raises(DataProblem, match="isn't a tf") as caught:
        parse_example(b"\xff\xff\xff", "file", 20)
    assert caught.value.where == "file, byte 20"
