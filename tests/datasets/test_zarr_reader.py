import json
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import pytest
import zarr
from hotstart.datasets.formats.files import FolderFiles, ZipFiles
from hotstart.datasets.formats.zarr_reader import open_array
from hotstart.spec import DataError
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

VALUES = np.cumsum(np.random.default_rng(0).normal(size=(23, 5, 3)), axis=0).astype(np.float32)
V2 = {
    "raw": None,
    "blosc": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE),
    "zstd": numcodecs.Zstd(3),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
}
V3 = {
    "raw": None,
    "blosc": BloscCodec(cname="lz4"),
    "zstd": ZstdCodec(checksum=True),
    "gzip": GzipCodec(),
}
CODECS = [(2, name) for name in V2] + [(3, name) for name in V3]


def write(
    path: Path,
    zarr_format: Literal[2, 3] = 2,
    codec: str = "raw",
    values: np.ndarray = VALUES,
    chunks: tuple[int, ...] = (4, 5, 2),
    **options: Any,
) -> Path:
    """An array `a` in a group, written by zarr."""
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    packed = (V2 if zarr_format == 2 else V3)[codec]
    group.create_array(
        "a", shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=packed, **options
    )[:] = values
    return path / "a"


def read(array):
    return open_array(FolderFiles(array.parent), array.name)


def chunks_of(array: Path):
    return sorted(
        file
        for file in array.rglob("*")
        if file.is_file() and file.name not in (".zarray", ".zattrs", "zarr.json")
    )


@pytest.mark.parametrize(("zarr_format", "codec"), CODECS)
def test_reads_what_zarr_wrote(tmp_path, zarr_format, codec):
    array = read(write(tmp_path / "g", zarr_format, codec))
    assert (array.shape, array.dtype) == (VALUES.shape, VALUES.dtype)
    np.testing.assert_array_equal(array[0:23], VALUES)
    np.testing.assert_array_equal(array[3:9], VALUES[3:9])
    assert array[9:9].shape == (0, 5, 3)


@pytest.mark.parametrize(
    ("zarr_format", "options"),
    [
        (2, {"order": "F"}),
        (2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}}),
        (2, {"filters": [numcodecs.Delta("<f4"), numcodecs.Shuffle(4)]}),
        (2, {"filters": [numcodecs.FixedScaleOffset(0, 1000, "<f4", "<i4"), numcodecs.CRC32()]}),
        (3, {"filters": [TransposeCodec(order=(2, 0, 1))]}),
        (3, {"chunk_key_encoding": {"name": "default", "separator": "."}}),
        (3, {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    ],
)
def test_orders_names_and_filters_mean_what_zarr_means(tmp_path, zarr_format, options):
    array = write(tmp_path / "g", zarr_format, "zstd", **options)
    wanted = np.asarray(zarr.open_array(str(array), mode="r")[:])
    np.testing.assert_allclose(wanted, VALUES, atol=1e-3)
    np.testing.assert_array_equal(read(array)[0:23], wanted)


@pytest.mark.parametrize("kind", [">f8", "<i2", "|u1", "|b1", "<u8"])
def test_every_type_of_number(tmp_path, kind):
    values = (VALUES * 10).astype(kind)
    np.testing.assert_array_equal(read(write(tmp_path / "g", 2, "zlib", values))[0:23], values)
    np.testing.assert_array_equal(read(write(tmp_path / "h", 3, "gzip", values))[0:23], values)


@pytest.mark.parametrize(("zarr_format", "codec"), CODECS)
@pytest.mark.parametrize("harm", ["half", "one byte less", "one byte more", "twice", "empty"])
def test_a_chunk_of_another_length_is_refused(tmp_path, zarr_format, codec, harm):
    array = write(tmp_path / "g", zarr_format, codec)
    harmed = chunks_of(array)[2]
    raw = harmed.read_bytes()
    changed = {
        "half": raw[: len(raw) // 2],
        "one byte less": raw[:-1],
        "one byte more": raw + b"\0",
        "twice": raw + raw,
        "empty": b"",
    }
    harmed.write_bytes(changed[harm])
    name = str(harmed.relative_to(array))
    with pytest.raises(DataError, match=f"a: chunk {name} is damaged"):
        read(array)[0:23]


def test_a_truncated_blosc_chunk_in_a_zip_is_refused(tmp_path):
    array = write(tmp_path / "g", 2, "blosc")
    harmed = chunks_of(array)[2]
    harmed.write_bytes(harmed.read_bytes()[:-40])
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as packed:
        for file in array.rglob("*"):
            packed.write(file, file.relative_to(array.parent))
    with pytest.raises(
        DataError, match=r"a: chunk 1.0.0 is damaged .blosc: it has .* bytes, its header says"
    ):
        open_array(ZipFiles(tmp_path / "g.zip"), "a")[0:23]


@pytest.mark.parametrize(
    ("zarr_format", "codec"), [(f, c) for f, c in CODECS if c not in ("raw", "lzma", "bz2")]
)
def test_a_chunk_that_inflates_beyond_its_size_is_refused_at_once(tmp_path, zarr_format, codec):
    array = write(tmp_path / "g", zarr_format, codec)
    bomb = write(
        tmp_path / "bomb",
        zarr_format,
        codec,
        np.zeros((1 << 22,), np.uint8),
        (1 << 22,),
        fill_value=7,
    )
    chunks_of(array)[2].write_bytes(chunks_of(bomb)[0].read_bytes())
    began = time.monotonic()
    with pytest.raises(DataError, match="is damaged"):
        read(array)[0:23]
    assert time.monotonic() - began < 0.2


def test_a_zstandard_frame_without_a_size_is_read_and_checked(tmp_path):
    array = write(tmp_path / "g", 2, "zstd", np.zeros(8, np.uint8), (8,), fill_value=1)
    (chunk,) = chunks_of(array)
    for size in (8, 7, 9):  # magic, no size in the header, window, one raw block
        block = ((size << 3) + 1).to_bytes(3, "little")
        chunk.write_bytes(bytes.fromhex("28b52ffd0000") + block + bytes(size))
        if size == 8:
            np.testing.assert_array_equal(read(array)[0:8], np.zeros(8))
        else:
            with pytest.raises(DataError, match="chunk 0 is damaged"):
                read(array)[0:8]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill", [0.0, -1.5, float("nan"), float("inf")])
def test_chunks_that_are_not_stored_hold_the_fill_value(tmp_path, zarr_format, fill):
    values = VALUES.copy()
    values[4:12] = fill
    array = write(tmp_path / "g", zarr_format, "raw", values, fill_value=fill)
    opened = read(array)
    assert opened.unstored == 4
    np.testing.assert_array_equal(opened[0:23], values)
    with pytest.raises(DataError, match="4 of 12 chunks are missing"):
        open_array(FolderFiles(array.parent), "a", fills=False).check_readable()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["compressor", "filter", "object_codec", "v3", "v3_plain_name"])
def test_a_pickle_in_a_chunk_never_runs(tmp_path, place):
    if place.startswith("v3"):
        zarr_format = 3
    else:
        zarr_format = 2
    array = write(tmp_path / "g", zarr_format, "raw", np.zeros((2, 3)), (2, 3), fill_value=1)
    metadata = array / ("zarr.json" if zarr_format == 3 else ".zarray")
    content = json.loads(metadata.read_text())
    content |= {
        "compressor": {"compressor": {"id": "pickle"}},
        "filter": {"filters": [{"id": "pickle"}]},
        "object_codec": {"filters": [{"id": "pickle"}], "dtype": "|O", "fill_value": None},
        "v3": {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]},
        "v3_plain_name": {"codecs": [{"name": "pickle"}]},
    }[place]
    metadata.write_text(json.dumps(content))
    (chunk,) = chunks_of(array)
    chunk.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    with pytest.raises(
        DataError, match=r"codec 'pickle', which is not read|is object; real numbers"
    ):
        read(array)[0:2]
    assert not (tmp_path / "executed").exists()
    pickle.loads(chunk.read_bytes())
    assert (tmp_path / "executed").exists()  # it would have run


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": [1 << 60, 5, 3]}, "shape is"),
        ({"shape": [23, True, 3]}, "shape is"),
        ({"shape": "abc"}, "shape is 'abc'"),
        ({"shape": [23] * 1000}, "shape is"),
        ({"shape": [1 << 40, 5, 3]}, "has .* chunks; at most"),
        ({"chunks": [0, 5, 2]}, "chunks is"),
        ({"chunks": [1 << 20, 1 << 20, 2]}, "has chunks of .* bytes; at most"),
        ({"chunks": [4, 5]}, "different numbers of axes"),
        ({"dtype": "|O"}, "is object; real numbers are stored"),
        ({"dtype": "<M8[s]"}, "give seconds since"),
        ({"dtype": [["a", "<f4"]]}, "plain numbers are read"),
        ({"dtype": "f4," * 100_000}, "plain numbers are read"),
        ({"fill_value": "A" * 100_000}, "fill value"),
        ({"fill_value": {}}, "fill value"),
        ({"compressor": []}, "must be a list of JSON objects"),
        ({"compressor": {"id": {}}}, "which is not read"),
        ({"filters": [{"id": "delta", "dtype": "|O"}]}, "numbers are read"),
        ({"filters": [{"id": "delta", "dtype": {}}]}, "numbers are read"),
        ({"filters": [{"id": "delta"}]}, "settings of codec 'delta' are wrong"),
        ({"filters": [{"id": "shuffle", "elementsize": 0}]}, "elementsize 0"),
        ({"filters": [{"id": "zlib"}, {"id": "zlib"}]}, "to compressed bytes"),
        ({"filters": [{"id": "crc32"}] * 1000}, "1000 codecs"),
        ({"order": []}, "order is"),
        ({"dimension_separator": "../"}, "dimension_separator is"),
    ],
)
def test_metadata_that_nobody_writes_is_refused_in_a_short_message(tmp_path, changed, message):
    array = write(tmp_path / "g")
    metadata = array / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | changed))
    with pytest.raises(DataError, match=message) as caught:
        read(array).check_readable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "changed",
    [
        {"storage_transformers": [{"name": "x"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 1]}}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": [0, 0, 1]}}]},
        {"codecs": ["bytes"]},
        {"codecs": None},
        {"chunk_grid": {"name": "other"}},
        {"chunk_grid": []},
        {"chunk_key_encoding": {"name": "default", "configuration": 3}},
        {"chunk_key_encoding": None},
        {"data_type": {"name": "numpy.datetime64"}},
        {"node_type": "group"},
    ],
)
def test_metadata_of_format_3_is_checked_too(tmp_path, changed):
    array = write(tmp_path / "g", 3)
    metadata = array / "zarr.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | changed))
    with pytest.raises(DataError):
        read(array).check_readable()


def test_a_pipe_in_place_of_a_chunk_does_not_wait(tmp_path):
    array = write(tmp_path / "g", 2, "raw")
    chunk = chunks_of(array)[0]
    chunk.unlink()
    os.mkfifo(chunk)
    opened = open_array(FolderFiles(array.parent), "a", fills=False)
    with pytest.raises(DataError, match="missing or no ordinary file"):
        opened[0:23]
