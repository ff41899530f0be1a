"""Checkpoints: what is saved comes back; what is not a checkpoint is named; a failed write leaves the old file."""

import os
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minisnn import UsageError, checkpoint, files

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c.d": np.array(7)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.npz"
    checkpoint.save(path, ARRAYS, {"epoch": 3, "best": None})
    return path


@settings(deadline=None, max_examples=20)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    ),
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "format"), st.integers() | st.floats(allow_nan=False) | st.text()
    ),
)
def test_what_is_saved_comes_back(tmp_path_factory, array, facts):
    path = tmp_path_factory.mktemp("checkpoint") / "x.npz"
    checkpoint.save(path, {"array": array}, facts)
    arrays, found = checkpoint.load(path)
    assert found == facts and arrays["array"].dtype == array.dtype
    assert np.array_equal(arrays["array"], array, equal_nan=array.dtype.kind == "f")


def test_no_pickle_inside(path, tmp_path):
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {*ARRAYS, "facts"} and all(not file[name].dtype.hasobject for name in file.files)
    with pytest.raises(ValueError, match="numbers"):
        checkpoint.save(tmp_path / "y.npz", {"a": np.array([{}])})
    assert os.listdir(tmp_path) == ["last.npz"]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"hello", b"\x93NUMPY" + bytes(50)], ids=["empty", "zip", "text", "npy"]
)
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / "last.npz"
    path.write_bytes(content)
    check_refused(path)


def test_other_npz_files_are_refused(tmp_path):
    path = tmp_path / "last.npz"
    np.savez(path, a=np.ones(3))
    check_refused(path)
    np.savez(path, facts=np.array([object()]))
    check_refused(path)
    np.save(tmp_path / "a.npy", np.ones(3))
    check_refused(tmp_path / "a.npy")


def test_cut_short_anywhere(path):
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 12).astype(int):
        path.write_bytes(whole[:length])
        check_refused(path)


def test_a_flipped_byte_is_noticed(path):
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(ARRAYS["a"].tobytes()) + 5] ^= 1
    path.write_bytes(damaged)
    check_refused(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0), st.integers(1, 255))
def test_any_damaged_byte_is_read_alike_or_refused(path, place, change):
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place % len(whole)] ^= change
    path.write_bytes(damaged)
    try:
        arrays, _ = checkpoint.load(path)
    except UsageError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:  # a byte that nobody reads, such as a date
        assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in arrays)
    finally:
        path.write_bytes(whole)


def test_an_archive_that_claims_to_be_encrypted(path):
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(damaged)
    check_refused(path)


def test_missing_and_newer_are_named(path, tmp_path, monkeypatch):
    check_refused(tmp_path / "none.npz", "does not exist")
    check_refused(tmp_path, "cannot be read")
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    check_refused(path, "format 1")


def check_refused(path, words="."):
    with pytest.raises(UsageError, match=words) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert "unsafely" not in str(error.value)  # as NumPy advises to load, for a pickle, what it does not know


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        checkpoint.save(path, {"a": np.zeros(1000)}, {})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_stopped_write_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), files.replace(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        files.write_text(tmp_path / "no/a.csv", "1")
    assert error.value.filename == str(tmp_path / "no/a.csv")


def test_text_is_written_whole(tmp_path):
    files.write_text(tmp_path / "a.csv", "1,2\nµ\n")
    assert pathlib.Path(tmp_path / "a.csv").read_bytes() == "1,2\nµ\n".encode()
