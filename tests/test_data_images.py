"""Still images: the built-in digits, IDX files in every place and form, damaged ones; augmentation; batches beside training."""

import gzip
import os
import struct

import numpy as np
import pytest
from small_runs import other_files

from minisnn import UsageError, data
from minisnn.catalogue import CATALOGUE
from minisnn.data import Loader, images
from minisnn.options import Options


def idx(array):
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, count=12, packed=True, parts=("train", "t10k")):
    """A small data set in IDX files; returns its images and labels by part."""
    rng, made = np.random.default_rng(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for what, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            content = idx(array)
            path = folder / f"{part}-{what}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
        made[part] = pixels, labels
    return made


# ---- the digits --------------------------------------------------------------------------------------------------------


def test_digits():
    d = data.load("digits", timesteps=3)
    assert (d.name, d.preset, len(d.classes)) == ("digits", "digits", 10) and len(d.train) + len(d.test) == 1797
    assert d.facts["train"] == len(d.train) and d.facts["test"] == len(d.test) == pytest.approx(1797 / 5, abs=5)
    x = d.test.batch(np.array([5, 3]))
    assert x.shape == (3, 2, 1, 16, 16) and x.dtype == np.float32 and x.min() >= 0 and 0.9 < x.max() <= 1
    assert d.test.labels.dtype == np.int64
    counts = np.bincount(d.test.labels) / np.bincount(np.concatenate([d.train.labels, d.test.labels]))
    assert np.all(np.abs(counts - 0.2) < 0.01)


def test_the_split_is_fixed_by_its_seed():
    first, again, other = (data.load("digits", seed=s) for s in (0, 0, 1))
    assert np.array_equal(first.test.indices, again.test.indices) and not np.array_equal(first.test.indices, other.test.indices)
    assert not set(first.test.indices) & set(first.train.indices)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_share_out_all_samples_and_each_class(folds):
    parts = [data.load("digits", seed=k, folds=folds) for k in range(folds)]
    tested = np.concatenate([part.test.indices for part in parts])
    assert sorted(tested) == list(range(1797)) and {len(p.test) for p in parts} <= {1797 // folds, 1797 // folds + 1}
    counts = np.array([np.bincount(part.test.labels) for part in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()
    for part in parts:
        assert not set(part.test.indices) & set(part.train.indices) and len(part.train) + len(part.test) == 1797


def test_folds_need_data_without_a_test_part(tmp_path):
    write_set(tmp_path)
    with pytest.raises(UsageError, match="--folds: mnist"):
        data.load("mnist", str(tmp_path), folds=5)
    with pytest.raises(UsageError, match="no fold 5 of 5"):
        Options(folds=5, split_seed=5)


def test_frames_are_one_image_shown_t_times_without_copies():
    x = data.load("digits", timesteps=7).train.batch(np.arange(4))
    assert x.strides[0] == 0 and np.array_equal(x[0], x[6])


# ---- IDX files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "raw"])
@pytest.mark.parametrize(
    "name, where", [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", ""), ("mnist", "MNIST")]
)
def test_idx_folders(tmp_path, name, where, packed):
    made = write_set(tmp_path / where, packed=packed)
    d = data.load(name, str(tmp_path), timesteps=2)
    assert (len(d.train), len(d.test), d.preset) == (12, 12, name) and str(tmp_path) in d.note
    assert np.array_equal(d.test.labels, made["t10k"][1])
    assert np.array_equal(d.test.batch(np.array([3]))[1, 0, 0] * 255, made["t10k"][0][3])


def test_the_variable_says_where_data_lies(tmp_path, monkeypatch):
    write_set(tmp_path / "MNIST" / "raw")
    monkeypatch.setenv("MINISNN_DATA", str(tmp_path))
    assert len(data.load("mnist").train) == 12


def test_the_installed_folder(tmp_path, monkeypatch):
    write_set(tmp_path / "installed")
    other_files(monkeypatch, "fashion-mnist", installed=(str(tmp_path / "installed"),))
    assert len(data.load("fashion-mnist", str(tmp_path / "elsewhere")).test) == 12


def test_a_part_alone(tmp_path):
    write_set(tmp_path, parts=("t10k",))
    d = data.load("mnist", str(tmp_path))
    assert d.train is None and len(d.test) == 12


def damage(folder, how):
    images_path, labels_path = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    raw = images_path.read_bytes()
    if how == "cut short":
        images_path.write_bytes(raw[:-100])
    elif how == "too long":
        images_path.write_bytes(raw + b"x")
    elif how == "packed and cut short":
        images_path.write_bytes(gzip.compress(raw)[:-30])
    elif how == "packed and damaged":
        packed = bytearray(gzip.compress(raw))
        packed[len(packed) // 2] ^= 255
        images_path.write_bytes(packed)
    elif how == "magic":
        images_path.write_bytes(b"\x00\x00\x0d\x03" + raw[4:])
    elif how == "dimensions":
        images_path.write_bytes(idx(np.zeros((12, 784), np.uint8)))
    elif how == "size":
        images_path.write_bytes(idx(np.zeros((12, 20, 20), np.uint8)))
    elif how == "empty":
        images_path.write_bytes(b"")
    elif how == "no samples":
        images_path.write_bytes(idx(np.zeros((0, 28, 28), np.uint8)))
    elif how == "huge":
        images_path.write_bytes(raw[:4] + b"\xff" * 12 + raw[16:])
    elif how == "fewer labels":
        labels_path.write_bytes(idx(np.zeros(11, np.uint8)))
        return labels_path
    elif how == "label":
        labels_path.write_bytes(idx(np.full(12, 10, np.uint8)))
        return labels_path
    elif how == "labels missing":
        labels_path.unlink()
        return folder
    return images_path


@pytest.mark.parametrize(
    "how",
    [
        "cut short",
        "too long",
        "packed and cut short",
        "packed and damaged",
        "magic",
        "dimensions",
        "size",
        "empty",
        "no samples",
        "huge",
        "fewer labels",
        "label",
        "labels missing",
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, how):
    write_set(tmp_path, packed=False)
    culprit = damage(tmp_path, how)
    with pytest.raises(UsageError) as error:
        data.load("mnist", str(tmp_path))
    assert str(culprit) in str(error.value) and "\n" not in str(error.value) and "; " in str(error.value)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A mirror on this machine that holds a small data set; returns its folder."""
    import functools
    import http.server
    import threading

    folder = tmp_path / "mirror"
    write_set(folder)
    (folder / "copy").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        checksums = {p.name: images.hashlib.md5(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.gz"))}
        other_files(monkeypatch, "mnist", url=f"http://127.0.0.1:{mirror.server_port}/", md5=checksums)
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield folder
        mirror.shutdown()


def test_download(tmp_path, server):
    d = data.load("mnist", str(tmp_path / "new"))
    assert len(d.train) == 12 and sorted(os.listdir(tmp_path / "new/MNIST/raw")) == sorted(CATALOGUE["mnist"].source.md5)


def test_a_download_that_went_wrong_leaves_nothing(tmp_path, server):
    (server / "train-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="0 bytes of a wrong checksum.*--data-dir"):
        data.load("mnist", str(tmp_path / "new"))
    assert "train-labels-idx1-ubyte.gz" not in os.listdir(tmp_path / "new/MNIST/raw")


def test_no_network(tmp_path, monkeypatch):
    other_files(monkeypatch, "mnist", url="http://127.0.0.1:9/")
    with pytest.raises(UsageError, match="cannot be downloaded.*--data-dir or MINISNN_DATA") as error:
        data.load("mnist", str(tmp_path))
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


def test_names_and_options():
    with pytest.raises(UsageError, match="cifar9.*digits"):
        data.load("cifar9")
    with pytest.raises(UsageError, match="window.*digits"):
        data.load("digits", window=400)


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("MINISNN_DATA", ""), "MNIST/raw")), reason="MINISNN_DATA holds no MNIST"
)
def test_real_mnist():
    d = data.load("mnist")
    assert (len(d.train), len(d.test)) == (60000, 10000) and np.bincount(d.test.labels).tolist()[:3] == [980, 1135, 1032]
    assert d.train.batch(np.array([0]))[0].mean() == pytest.approx(0.1377, abs=1e-3)


# ---- augmentation ------------------------------------------------------------------------------------------------------


def test_warp_by_nothing_changes_nothing():
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    assert np.array_equal(images.warp(x, np.array([[[1, 0, 0], [0, 1, 0]]]), 8), x)


def test_warp_shifts_mirrors_and_enlarges():
    x = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    shifted = images.warp(x, np.array([[[1, 0, 1], [0, 1, 0]]]), 4)[0]  # looks one row further down
    assert np.array_equal(shifted[:3], x[0, 1:]) and not shifted[3].any()
    assert np.array_equal(images.warp(x, np.array([[[1, 0, 0], [0, -1, 0]]]), 4)[0], x[0, :, ::-1])
    large = images.warp(np.full((1, 4, 4), 9, np.uint8), np.array([[[0.5, 0, 0], [0, 0.5, 0]]]), 8)[0]
    assert np.allclose(large[1:-1, 1:-1], 9)


def moved(image, turn, zoom, shift, mirror):
    """What one pixel of an augmented image is, by the words: the place is mirrored, turned and stretched about the center,
    shifted, and there the image is read between its four nearest pixels; outside it is 0.
    """
    size = len(image)
    center, out = (size - 1) / 2, np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            down, right = i - center, (j - center) * (-1 if mirror else 1)
            y = center + shift[0] + zoom * (np.cos(turn) * down - np.sin(turn) * right)
            x = center + shift[1] + zoom * (np.sin(turn) * down + np.cos(turn) * right)
            for k in (int(np.floor(y)), int(np.floor(y)) + 1):
                for m in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= k < size and 0 <= m < size:
                        out[i, j] += image[k, m] * (1 - abs(y - k)) * (1 - abs(x - m))
    return out


def test_fashion_mnist_is_moved_as_its_row_says(tmp_path):
    """Flips, shifts of 2 pixels, turns of 5 degrees, zooms of 5 %; drawn once more here, in the order of the words."""
    pixels = write_set(tmp_path)["train"][0]
    x = data.load("fashion-mnist", str(tmp_path)).train.batch(np.arange(12), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    turn, zoom, shift = rng.uniform(-5, 5, 12), 1 + rng.uniform(-0.05, 0.05, 12), rng.uniform(-2, 2, (12, 2))
    mirror = rng.random(12) < 0.5
    assert 0 < mirror.sum() < 12
    for n in range(12):
        assert np.allclose(x[0, n, 0] * 255, moved(pixels[n], np.deg2rad(turn[n]), zoom[n], shift[n], mirror[n]), atol=0.02)


def test_the_paper_only_mirrors_fashion_mnist(tmp_path):
    pixels = write_set(tmp_path)["train"][0]
    train = Options(dataset="fashion-mnist", recipe="paper", data_dir=str(tmp_path), normalize=False).load().train
    x = train.batch(np.arange(12), np.random.default_rng(3))[0, :, 0] * 255
    same, mirrored = ([np.allclose(x[n], seen[n], atol=1e-3) for n in range(12)] for seen in (pixels, pixels[:, :, ::-1]))
    assert 0 < sum(same) < 12 and np.array_equal(same, ~np.array(mirrored))


def test_augmentation_only_in_training_and_only_by_its_generator():
    d = data.load("digits", augment=True)
    plain, a, b, c = (d.train.batch(np.arange(8), rng) for rng in (None, *map(np.random.default_rng, (1, 1, 2))))
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, plain)
    assert abs(a.mean() - plain.mean()) < 0.05 and a.min() >= 0 and a.max() <= 1
    off = data.load("digits", augment=False)
    assert np.array_equal(off.train.batch(np.arange(8), np.random.default_rng(1)), plain)


# ---- batches -----------------------------------------------------------------------------------------------------------


class Numbers(data.Samples):
    """Sample k holds k; augmentation adds a random number."""

    size, timesteps = (1, 1, 1), 2

    def __init__(self, count):
        self.labels = np.arange(count)

    def batch(self, indices, rng=None):
        x = np.asarray(indices, np.float32).reshape(1, -1, 1, 1, 1) + (rng.random() if rng is not None else 0)
        return np.broadcast_to(x, (2, *x.shape[1:]))


def epoch(**options):
    return [(x[0, :, 0, 0, 0].copy(), labels) for x, labels in Loader(Numbers(10), 4, **options)]


def test_every_sample_once_in_an_order_that_depends_on_seed_and_epoch():
    first, again, other, next_seed = (epoch(seed=s, epoch=e, shuffle=True) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert [len(labels) for _, labels in first] == [4, 4, 2]
    assert sorted(np.concatenate([labels for _, labels in first])) == list(range(10))
    assert all(np.array_equal(a, b) and np.array_equal(k, m) for (a, k), (b, m) in zip(first, again))
    for different in (other, next_seed):
        assert not all(np.array_equal(k, m) for (_, k), (_, m) in zip(first, different))


def test_in_order_without_augmentation_for_evaluation():
    assert [labels.tolist() for _, labels in epoch()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(np.array_equal(x, labels) for x, labels in epoch())


def test_limit_takes_the_same_samples_in_every_epoch():
    sets = [set(np.concatenate([labels for _, labels in epoch(shuffle=True, epoch=e, limit=6)])) for e in range(3)]
    assert len(sets[0]) == 6 and sets[0] == sets[1] == sets[2]


def test_an_error_in_the_thread_reaches_the_reader():
    class Broken(Numbers):
        def batch(self, indices, rng=None):
            raise UsageError("sample 7 is damaged")

    with pytest.raises(UsageError, match="sample 7"):
        list(Loader(Broken(10), 4))


def test_whoever_stops_early_leaves_no_thread():
    import threading

    before, loader = threading.active_count(), Loader(Numbers(1000), 1)
    for _, labels in loader:
        if labels[0] == 3:
            break
    assert threading.active_count() == before and 0 <= loader.waiting <= 1
