"""Recordings: tonic's three layouts, splits, windows, and every way in which a file can be bad."""

import os
import pathlib
import shutil
import struct
import subprocess
import sys

import event_files as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn import data, models, ops, optim
from minisnn.data import events, places, recordings
from minisnn.engine import Tensor
from minisnn.errors import UsageError

WRITE = {
    "nmnist": (files.write_bin, "NMNIST/Train/4/00000.bin", 34),
    "dvsgesture": (files.write_npy, "DVSGesture/ibmGestureTrain/user01_led/4.npy", 128),
    "cifar10dvs": (files.write_aedat4, "CIFAR10DVS/deer/a.aedat4", 128),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINISNN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", WRITE)
def test_what_was_written_is_read(name, tmp_path):
    write, where, size = WRITE[name]
    x, y, t, p = files.some_events(1, 500, size)
    write(tmp_path / where, x, y, t, p)
    found = events.read_recording(name, str(tmp_path / where))
    assert found.dtype.names == ("x", "y", "t", "p") and found.dtype["p"] == np.bool_
    assert all((found[field] == values).all() for field, values in zip("xytp", (x, y, t, p)))
    dataset = data.load(name, str(tmp_path), 4)
    samples = dataset.train
    assert samples.labels.tolist() == [4] and samples.batch([0]).shape == (4, 1, 2, size, size)
    assert samples.batch([0]).sum() == 500 and dataset.preset == name


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("damage", ["empty", "cut short", "noise", "outside"])
def test_a_bad_recording_is_named_in_one_line_or_left_out(name, damage, tmp_path):
    write, where, size = WRITE[name]
    bad, good = tmp_path / where, (tmp_path / where).with_name("6" + os.path.splitext(where)[1])
    write(good, *files.some_events(2, 100, size))
    x, y, t, p = files.some_events(1, 100, size)
    if damage == "outside":
        x[70] = size
    write(bad, x, y, t, p)
    if damage == "empty":
        bad.write_bytes(b"")
    elif damage == "cut short":
        bad.write_bytes(bad.read_bytes()[:-7])
    elif damage == "noise":
        bad.write_bytes(np.random.default_rng(0).bytes(3001))
    with pytest.raises(UsageError) as error:
        events.read_recording(name, str(bad))
    assert str(bad) in str(error.value) and "\n" not in str(error.value) and "--skip-bad" in str(error.value)
    assert "unsafely" not in str(error.value)  # as NumPy advises to load, for a pickle, what it does not know
    dataset = data.load(name, str(tmp_path), 4, skip_bad=True)
    assert dataset.facts["skipped"] == 1 and (dataset.facts["train"], dataset.facts["test"]) == (1, 0)
    assert "1 more omitted" in dataset.note and str(bad) in dataset.note and "\n" not in dataset.note


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 4)),
        np.zeros((5, 3)),
        np.full((5, 4), np.nan),
        np.array([[1, 1, 2, 1.0]]),
        np.array([[1, 1, 1, -2.0]]),
        np.array([{"a": 1}], object),
    ],
)
def test_a_gesture_file_of_other_content_is_refused(rows, tmp_path):
    files.needs_tonic()
    np.save(tmp_path / "3.npy", rows)
    with pytest.raises(UsageError, match="3.npy"):
        events.read_recording("dvsgesture", str(tmp_path / "3.npy"))


def test_skip_bad_without_a_good_one_says_so(tmp_path):
    files.needs_tonic()
    (tmp_path / "NMNIST/Train/4").mkdir(parents=True)
    (tmp_path / "NMNIST/Train/4/00000.bin").write_bytes(b"")
    with pytest.raises(UsageError, match="none of the 1 recordings.*00000.bin is empty"):
        data.load("nmnist", str(tmp_path), skip_bad=True)


def test_a_recording_that_vanished_is_named(tmp_path):
    samples = data.load("nmnist", str(files.write_nmnist(tmp_path)), 4, cache="none").train
    path = samples.recordings[0].path
    os.unlink(path)
    with pytest.raises(UsageError, match=os.path.basename(path)):
        samples.batch([0])


def test_train_alone_is_split_by_seed_and_the_split_is_kept(tmp_path):
    files.write_nmnist(tmp_path)
    one, same, other = (data.load("nmnist", str(tmp_path), seed=seed) for seed in (0, 0, 3))
    assert one.facts["held_out"] == same.facts["held_out"] != other.facts["held_out"]
    assert (len(one.train), len(one.test)) == (18, 2) and sorted(one.test.labels) == [3, 7]
    kept = {r.path for r in one.train.recordings} | {r.path for r in one.test.recordings}
    assert len(kept) == 20 and one.facts["split_seed"] == 0
    assert "20 recordings found in" in one.note and "9 in 10" in one.note


def test_folds_of_a_copy_without_a_test_part(tmp_path):
    folder = str(files.write_nmnist(tmp_path, each=7))
    parts = [data.load("nmnist", folder, seed=k, folds=3) for k in range(3)]
    tested = [{r.path for r in part.test.recordings} for part in parts]
    assert len(set.union(*tested)) == sum(map(len, tested)) == len(tested[0]) + len(parts[0].train)
    for part, names in zip(parts, tested):
        assert not names & {r.path for r in part.train.recordings} and len(part.facts["held_out"]) == len(names)
    with pytest.raises(UsageError, match="--folds: --split-at"):
        data.load("nmnist", folder, folds=3, window=5, split_at=10)


def test_a_split_is_kept_when_the_copy_grows(tmp_path):
    before = data.load("nmnist", str(files.write_nmnist(tmp_path, each=10)), seed=1)
    after = data.load("nmnist", str(files.write_nmnist(tmp_path, each=30)), seed=1, keep_out=before.facts["held_out"])
    assert after.facts["held_out"] == before.facts["held_out"] and len(after.train) == 58
    new_draw = data.load("nmnist", str(tmp_path), seed=1)
    assert {r.short for r in new_draw.test.recordings} & {r.short for r in before.train.recordings}  # what it guards against
    with pytest.raises(UsageError, match="held out"):
        data.load("nmnist", str(tmp_path), keep_out=["Train/1/77777.bin"])


def test_the_only_recording_of_a_class_trains(tmp_path):
    files.write_nmnist(tmp_path, digits=(3, 7), each=2)
    files.write_nmnist(tmp_path, digits=(5,), each=1)
    dataset = data.load("nmnist", str(tmp_path))
    assert sorted(dataset.train.labels) == [3, 5, 7] and sorted(dataset.test.labels) == [3, 7]
    files.write_nmnist(tmp_path / "one", digits=(3, 7), each=1)
    dataset = data.load("nmnist", str(tmp_path / "one"))
    assert len(dataset.train) == 2 and dataset.test is None and "--split-at" in dataset.note


def test_official_parts_stay_and_a_test_part_alone_can_be_evaluated(tmp_path):
    both = data.load("nmnist", str(files.write_nmnist(tmp_path / "both", ("Train", "Test"))))
    assert (len(both.train), len(both.test)) == (20, 20) and both.facts["split"] == "official"
    assert all("Train" in r.path for r in both.train.recordings) and all("Test" in r.path for r in both.test.recordings)
    alone = data.load("nmnist", str(files.write_nmnist(tmp_path / "alone", ("Test",))))
    assert alone.train is None and len(alone.test) == 20


def test_the_folder_itself_may_be_given(tmp_path):
    files.write_dvsgesture(tmp_path)
    assert len(data.load("dvsgesture", str(tmp_path / "DVSGesture")).train) == len(data.load("dvsgesture", str(tmp_path)).train)


def test_recordings_are_listed_in_the_order_of_their_numbers(tmp_path):
    files.write_dvsgesture(tmp_path)
    _, labels = recordings.list_recordings("dvsgesture", str(tmp_path))
    assert labels.tolist() == [0, 2, 10, 0, 2, 10]


def test_a_file_in_a_folder_without_a_class_is_refused(tmp_path):
    files.write_nmnist(tmp_path)
    files.write_bin(tmp_path / "NMNIST/Train/spare/0.bin", *files.some_events(0))
    with pytest.raises(UsageError, match="spare"):
        data.load("nmnist", str(tmp_path))


# ---- windows -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 800), st.integers(1, 500), st.integers(0, 2000), st.none() | st.integers(0, 3500))
def test_windows_are_whole_and_stay_in_their_part(duration, window, stride, begin, end):
    found = recordings.windows(duration, window, stride, begin, end)
    last = duration if end is None else min(end, duration)
    assert all(begin <= start and stop == start + window and stop <= last for start, stop in found)
    assert len(found) == max(0, (last - begin - window) // stride + 1)


def test_no_window_crosses_from_training_to_test(tmp_path):
    files.write_dvsgesture(tmp_path)
    dataset = data.load("dvsgesture", str(tmp_path), 4, window=400, stride=25, split_at=1000)
    assert {stop for _, _, stop in dataset.train.parts} == set(range(400_000, 1_000_001, 25_000))
    assert all(start >= 1_000_000 for _, start, _ in dataset.test.parts) and len(dataset.test) >= 6
    for samples in (dataset.train, dataset.test):
        for k in (0, len(samples) - 1):
            t = samples.events(k)["t"]
            assert samples.parts[k][1] <= t[0] and t[-1] < samples.parts[k][2]
            assert samples.frames(k).sum() == len(t)
    assert dataset.facts["split"] == "within each recording, at 1000 ms" and "windows" in dataset.note


def test_windows_without_split_at_keep_whole_recordings_apart(tmp_path):
    dataset = data.load("nmnist", str(files.write_nmnist(tmp_path)), 4, window=100, stride=50)
    train, test = ({r.path for r in samples.recordings} for samples in (dataset.train, dataset.test))
    assert len(dataset.train) > 18 and not train & test


@pytest.mark.parametrize(
    "options, culprit",
    [
        (dict(stride=5), "--stride"),
        (dict(split_at=5), "--split-at"),
        (dict(window=-1), "--window"),
        (dict(window=9000), "--window 9000"),
        (dict(window=200, split_at=250), "--split-at 250"),
        (dict(slicing="x"), "--slicing"),
        (dict(colour="red"), "--colour"),
        (dict(frame_size=35), "--frame-size"),
    ],
)
def test_options_out_of_range_are_named(options, culprit, tmp_path):
    with pytest.raises(UsageError, match=culprit):
        data.load("nmnist", str(files.write_nmnist(tmp_path)), 4, **options)


# ---- cache, download, tonic ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 100])
def test_a_second_epoch_reads_no_recording(window, tmp_path, monkeypatch):
    samples = data.load("nmnist", str(files.write_nmnist(tmp_path)), 4, window=window).train
    first = samples.batch(np.arange(len(samples)))
    monkeypatch.setattr(events, "read_recording", lambda *_: pytest.fail("a recording was read again"))
    events.read_small.cache_clear()
    assert (samples.batch(np.arange(len(samples))) == first).all() and first.dtype == np.float32


def test_other_options_are_other_frames(tmp_path):
    files.write_nmnist(tmp_path)
    by_count, by_time, small = (
        data.load("nmnist", str(tmp_path), 4, **o).train.batch([0]) for o in ({}, {"slicing": "time"}, {"frame_size": 17})
    )
    assert by_count.shape == by_time.shape and (by_count != by_time).any() and small.shape == (4, 1, 2, 17, 17)


@pytest.mark.parametrize(
    "content, says", [(b"", "0 bytes and is empty"), (b"no archive", "does not pass its check"), (None, "no route to host")]
)
def test_a_download_that_fails_says_why_and_what_to_do_by_hand(content, says, tmp_path, monkeypatch, capsys):
    files.needs_tonic()
    cls = events.tonic_class("dvsgesture")

    def download(self):
        if content is None:
            raise OSError("no route to host")
        os.makedirs(self.location_on_system)
        with open(os.path.join(self.location_on_system, self.filename), "wb") as file:
            file.write(content)
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(cls, "download", download)
    with pytest.raises(UsageError) as error:
        data.load("dvsgesture", str(tmp_path / "new"))
    text = str(error.value)
    assert says in text and "ibmGestureTrain.tar.gz" in text and cls.train_url in text and "\n" not in text
    assert not (tmp_path / "new").exists() and "downloads" in capsys.readouterr().err


def test_without_tonic_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(UsageError, match="pip install tonic"):
        data.load("nmnist", str(files.write_nmnist(tmp_path)))


def test_tonic_is_imported_for_recordings_only():
    code = "import sys; from minisnn.data import events, gestures; gestures.simulate(0); sys.exit('tonic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- folders as systems leave them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITE)
def test_hidden_and_foreign_files_are_passed_over(name, tmp_path):
    write, where, size = WRITE[name]
    path = tmp_path / where
    write(path, *files.some_events(1, 100, size))
    ending = path.suffix
    for folder in {path.parent, path.parent.parent}:
        for other in (f"._{path.name}", ".DS_Store", "Thumbs.db", "desktop.ini", "README.txt", f".{ending}", f"x{ending}.part"):
            (folder / other).write_bytes(b"not a recording")
        for hidden in (".Trash", "__MACOSX", ".ipynb_checkpoints"):
            (folder / hidden / "3").mkdir(parents=True, exist_ok=True)
            (folder / hidden / "3" / f"5{ending}").write_bytes(b"not a recording")
    assert len(data.load(name, str(tmp_path), 4).train) == 1


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_links_are_followed_each_folder_once_and_never_in_circles(tmp_path):
    files.write_nmnist(tmp_path / "real", digits=(3, 7), each=2)
    train = tmp_path / "data" / "NMNIST" / "Train"
    train.parent.mkdir(parents=True)
    train.symlink_to(tmp_path / "real" / "NMNIST" / "Train", target_is_directory=True)
    (tmp_path / "real/NMNIST/Train/3/again").symlink_to(tmp_path / "real/NMNIST/Train", target_is_directory=True)
    (tmp_path / "real/NMNIST/Train/3/nowhere").symlink_to(tmp_path / "gone", target_is_directory=True)
    assert sum(data.load("nmnist", str(tmp_path / "data"), 4).facts["recordings"].values()) == 4


def test_folders_are_known_by_their_exact_names(tmp_path, monkeypatch):
    (tmp_path / "train" / "3").mkdir(parents=True)
    real = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: real(path) or real(str(path).replace("Train", "train")))  # as on Windows
    assert recordings.find_folder("nmnist", str(tmp_path)) is None
    (tmp_path / "Test").mkdir()
    assert recordings.find_folder("nmnist", str(tmp_path)) == str(tmp_path)


def test_names_of_recordings_move_between_systems(tmp_path):
    before = data.load("nmnist", str(files.write_nmnist(tmp_path)), seed=1)
    assert all("\\" not in name and name.startswith("Train/") for name in before.facts["held_out"])
    windows = [name.replace("/", "\\") for name in before.facts["held_out"]]
    assert data.load("nmnist", str(tmp_path), seed=3, keep_out=windows).facts["held_out"] == before.facts["held_out"]


def test_a_recording_replaced_by_one_of_the_same_size_and_time_is_read_anew(tmp_path):
    files.write_nmnist(tmp_path, digits=(3,), each=2)
    first = data.load("nmnist", str(tmp_path), 4).train
    path = pathlib.Path(first.recordings[0].path)
    before, status = first.batch([0]), path.stat()
    files.write_bin(path, *files.some_events(99, status.st_size // 5))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = first.batch([0])
    assert (changed != before).any() and path.stat().st_size == status.st_size
    events.content_hash.cache_clear()
    events.read_small.cache_clear()
    assert (data.load("nmnist", str(tmp_path), 4).train.batch([0]) == changed).all()


def test_a_copy_elsewhere_is_served_from_the_cache(tmp_path, monkeypatch):
    files.write_nmnist(tmp_path / "a", digits=(3,), each=2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    x = data.load("nmnist", str(tmp_path / "a"), 4).train.batch([0])
    monkeypatch.setattr(events, "read_recording", lambda *_: pytest.fail("a recording was read again"))
    assert (data.load("nmnist", str(tmp_path / "b"), 4).train.batch([0]) == x).all()


def test_none_means_no_cache_wherever_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_nmnist(tmp_path)
    for cache, variable in (("none", None), (None, "none"), ("none", str(tmp_path / "c"))):
        if variable is None:
            monkeypatch.delenv("MINISNN_CACHE")
        else:
            monkeypatch.setenv("MINISNN_CACHE", variable)
        assert data.load("nmnist", str(tmp_path), 4, cache=cache).train.cache is None
    assert sorted(os.listdir(tmp_path)) == ["NMNIST"]


def test_without_a_home_no_folder_of_that_name_appears(tmp_path, monkeypatch):
    monkeypatch.setattr(places.os.path, "expanduser", lambda path: path)  # as where neither HOME nor the user is known
    for name in ("MINISNN_CACHE", "MINISNN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert places.cache_folder() is None and os.path.isabs(places.data_folder())
    assert places.cache_folder("here") == "here" and places.data_folder("there") == "there"


def test_an_archive_that_is_whole_or_was_there_before_is_never_removed(tmp_path, monkeypatch):
    files.needs_tonic()
    cls = events.tonic_class("dvsgesture")
    archive = tmp_path / "new" / "DVSGesture" / cls.train_filename
    archive.parent.mkdir(parents=True)

    def unpack(self):
        archive.write_bytes(b"whole")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cls, "download", unpack)
    monkeypatch.setattr(recordings, "md5", lambda path: cls.train_md5)
    with pytest.raises(UsageError, match="No space left.*is intact and was kept"):
        data.load("dvsgesture", str(tmp_path / "new"))
    assert archive.read_bytes() == b"whole"
    monkeypatch.undo()
    monkeypatch.setattr(cls, "download", lambda self: (_ for _ in ()).throw(RuntimeError("corrupted")))
    with pytest.raises(UsageError, match="corrupted"):
        data.load("dvsgesture", str(tmp_path / "new"))
    assert archive.read_bytes() == b"whole"  # the user's own


# ---- files made to harm --------------------------------------------------------------------------------------------------


def npy(header, body=b""):
    text = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 4), }\n",
    "{'descr': '<f4', 'fortran_order': False, 'shape'",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
    "{'descr': '<f4', 'fortran_order': 3, 'shape': (1, 4)}",
    "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1, 4)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1e3, 4)}",
    "(" * 3000,
    "\x00" * 64,
    "[" * 90 + "]" * 90,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (10**30, 4)}",
    "{'descr': '<U9', 'fortran_order': False, 'shape': (1, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 4)}",
    "{1: 2}",
    b"\xff\xfe'descr'",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_damaged_header_is_one_line(header, tmp_path):
    (tmp_path / "3.npy").write_bytes(npy(header, bytes(64)))
    with pytest.raises(UsageError, match="3.npy") as error:
        events.read_recording("dvsgesture", str(tmp_path / "3.npy"))
    assert "\n" not in str(error.value)


def mutants(content, seed, count):
    """Damaged copies: bytes changed, cut, repeated, put in."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        bad = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at, how = int(rng.integers(0, min(len(bad), 200 if rng.random() < 0.7 else len(bad)) or 1)), rng.integers(5)
            if how == 0:
                bad[at : at + 1] = bytes([rng.integers(256)])
            elif how == 1:
                bad = bad[:at]
            elif how == 2:
                bad[at : at + 8] = struct.pack("<q", rng.choice([-1, 2**31 - 1, 2**40, 255]))
            elif how == 3:
                bad[at:at] = bad[at : at + 50]
            else:
                bad[at:at] = rng.bytes(3)
        yield bytes(bad)


def fuzz(name, tmp_path, count):
    """How many of the mutants of a recording were refused; each is, or is read, without anything else happening."""
    write, where, size = WRITE[name]
    path, refused = tmp_path / where, 0
    write(path, *files.some_events(1, 60, size))
    for content in list(mutants(path.read_bytes(), 0, count)):
        path.write_bytes(content)
        try:
            assert len(events.read_recording(name, str(path))) > 0
        except UsageError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            refused += 1
    return refused


@pytest.mark.parametrize("name, count", [("nmnist", 150), ("dvsgesture", 150), ("cifar10dvs", 60)])
def test_damaged_recordings_are_refused_in_one_line_or_read(name, count, tmp_path):
    assert 0 < fuzz(name, tmp_path, count) <= count


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITE)
def test_many_damaged_recordings(name, tmp_path):
    count = 5000
    print(f"{name}: {fuzz(name, tmp_path, count)} of {count} mutants refused")


def test_a_decoder_that_dies_takes_nothing_with_it(tmp_path):
    files.write_cifar10dvs(tmp_path, classes=files.CIFAR10[:1], each=3)
    paths = sorted((tmp_path / "CIFAR10DVS/airplane").iterdir())
    content = paths[1].read_bytes()
    at = content.index(b"<dv version")
    paths[1].write_bytes(content[: at + 4] + b"\xff" + content[at + 5 :])  # a header that is no UTF-8, over which it panics
    dataset = data.load("cifar10dvs", str(tmp_path), 2, skip_bad=True)
    assert dataset.facts["skipped"] == 1 and paths[1].name in dataset.note
    with pytest.raises(UsageError, match=paths[1].name):
        events.read_recording("cifar10dvs", str(paths[1]))
    assert len(events.read_recording("cifar10dvs", str(paths[2]))) == 300


# ---- training ------------------------------------------------------------------------------------------------------------


def test_cifar10dvs_trains_a_few_steps_with_the_papers_augmentation(tmp_path):
    dataset = data.load("cifar10dvs", str(files.write_cifar10dvs(tmp_path)), 2)
    assert (len(dataset.train), len(dataset.test)) == (18, 2) and dataset.classes == files.CIFAR10
    assert dataset.train.moves.flip and dataset.test.moves is None
    x, labels = dataset.train.batch([0, 17], np.random.default_rng(0)), dataset.train.labels[[0, 17]]
    assert (x != dataset.train.batch([0, 17])).any() and sorted(labels) == [0, 1]
    net = models.build("cifar10dvs", width=8, timesteps=2, seed=0)
    optimizer, losses = optim.Adam(net.parameters(), lr=2e-3), []
    for _ in range(6):
        loss = ops.mse_loss(net(Tensor(x)), ops.one_hot(labels, 10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(np.isfinite(losses)) and losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_a_step_of_the_full_size_network(tmp_path):
    """128x128, T 32, width 64, batch 2: the published network on the published input. Run with -s to see what it took."""
    import time

    from minisnn.memory import peak_megabytes

    recordings = [files.some_events(k, 100_000, 128, 6_000_000) for k in range(2)]
    for label, events_of_one in enumerate(recordings):
        files.write_npy(tmp_path / f"DVSGesture/ibmGestureTrain/user01_led/{label}.npy", *events_of_one)
    x = data.load("dvsgesture", str(tmp_path), 32).train.batch([0, 1])
    net = models.build("dvsgesture", attention="t", width=64, timesteps=32, seed=0)
    optimizer, begin = optim.Adam(net.parameters(), lr=1e-4), time.perf_counter()
    loss = ops.mse_loss(net(Tensor(x)), ops.one_hot(np.array([0, 1]), 11))
    loss.backward()
    optimizer.step()
    print(f"one step {time.perf_counter() - begin:.1f} s, peak memory {peak_megabytes()} MB")
    assert np.isfinite(loss.item()) and all(np.isfinite(p.grad).all() and np.isfinite(p.data).all() for p in net.parameters())
    assert np.abs(net.stem.conv.weight.grad).max() > 0


REAL = os.path.join(os.environ.get("MINISNN_DATA", "nowhere"), "DVSGesture")
needs_data = pytest.mark.skipif(not os.path.isdir(REAL), reason="the variable MINISNN_DATA names no folder with DVSGesture")


@needs_data
def test_real_gestures_cut_into_windows():
    files.needs_tonic()
    dataset = data.load("dvsgesture", None, 4, window=400, stride=100, split_at=1000, cache="none")
    x = dataset.test.batch([0])
    assert x.sum() == len(dataset.test.events(0)) > 1000
