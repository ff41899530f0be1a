"""Events to frames, the cache of frames, augmentation, and time steps out of order."""

import concurrent.futures
import errno
import os
import pathlib
import shutil
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minisnn.catalogue import Moves
from minisnn.data import Samples, ShuffledTime
from minisnn.data.cache import HEAD, OWN, FrameCache
from minisnn.data.events import EVENT
from minisnn.data.frames import check_events, moved, slice_numbers, to_frames
from minisnn.errors import UsageError


def make(rows):
    """Events from rows of x, y, t, p."""
    return np.array([tuple(row) for row in rows], EVENT)


def random_events(seed, count, size=6, duration=1000):
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [*rng.integers(0, size, (2, count)), np.sort(rng.integers(0, duration, count)), rng.integers(0, 2, count)], 1
    )
    return make(rows)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99), st.integers(1, 60), st.integers(1, 7), st.sampled_from(["count", "time"]))
def test_frames_equal_the_definition_and_lose_no_event(seed, count, T, slicing):
    events = random_events(seed, count)
    expected = np.zeros((T, 2, 6, 6), int)
    first, last = int(events["t"][0]), int(events["t"][-1]) + 1
    for i, (x, y, t, p) in enumerate(events.tolist()):
        k = i * T // count if slicing == "count" else (t - first) * T // (last - first)
        expected[k, int(p), y, x] += 1
    frames = to_frames(events, T, (6, 6), slicing)
    assert frames.dtype == np.uint8 and (frames == expected).all() and frames.sum() == count
    if slicing == "count":
        each = frames.reshape(T, -1).sum(1)
        assert each.max() - each.min() <= 1


def test_counts_stay_at_255_instead_of_wrapping():
    events = make([(2, 1, t, 1) for t in range(70_000)])
    frames = to_frames(events, 2, (4, 4))
    assert frames[:, 1, 1, 2].tolist() == [255, 255] and frames.sum() == 510


def test_smaller_frames_add_pixels_up():
    events = random_events(0, 200, size=8)
    whole, half = to_frames(events, 3, (8, 8)), to_frames(events, 3, (8, 8), size=4)
    assert (half == whole.reshape(3, 2, 4, 2, 4, 2).sum((3, 5))).all()


def test_a_span_sets_the_slices_of_time():
    events = make([(0, 0, 100, 0), (0, 0, 199, 1)])
    assert slice_numbers(events, 4, "time", (0, 400)).tolist() == [1, 1]
    assert slice_numbers(events, 4, "time").tolist() == [0, 3]


def test_events_are_sorted_and_checked():
    late = make([(0, 0, 9, 0), (1, 0, 3, 1), (2, 0, 9, 1)])
    assert check_events(late, (4, 4), "a.bin")["x"].tolist() == [1, 0, 2]
    for bad, what in (([(4, 0, 0, 0)], "x = 4"), ([(0, -1, 0, 0)], "y = -1"), ([(0, 0, -5, 0)], "t = -5"), ([], "no events")):
        with pytest.raises(UsageError, match=f"a.bin.*{what}"):
            check_events(make(bad), (4, 4), "a.bin")


# ---- cache ---------------------------------------------------------------------------------------------------------------


def noise(seed, side=16):
    return np.random.default_rng(seed).integers(0, 255, (2, 2, side, side), np.uint8)


def test_the_cache_gives_back_what_it_got_and_survives_damage(tmp_path):
    cache, frames = FrameCache(tmp_path / "c", 10**6), noise(0)
    key = cache.key(["file", 1, (2, 3)])
    assert key != cache.key(["file", 1, (2, 4)]) and cache.get(key, frames.shape) is None
    cache.put(key, frames)
    assert (cache.get(key, frames.shape) == frames).all() and (cache.hits, cache.misses) == (1, 1)
    (stored,) = [pathlib.Path(path) for _, _, path in cache.files()]
    for content in (b"", stored.read_bytes()[:-9], b"x" * 100):
        stored.write_bytes(content)
        assert cache.get(key, frames.shape) is None
    cache.put(key, frames)
    assert cache.get(key, (1, 2, 3)) is None  # of another shape
    assert (cache.get(key, frames.shape) == frames).all()


def test_frames_are_kept_in_a_compact_form(tmp_path):
    cache = FrameCache(tmp_path, 10**6)
    cache.put("ab" * 16, to_frames(random_events(0, 300, 34), 10, (34, 34)))
    ((_, size, _),) = cache.files()
    assert size < 300 * 8 < 10 * 2 * 34 * 34 / 8


def test_the_cache_keeps_its_limit_by_throwing_out_what_is_old(tmp_path):
    old = FrameCache(tmp_path, 20_000)
    for k in range(12):
        old.put(old.key(k), noise(k))
        os.utime(old.path(old.key(k)), (k, k))
    new, before = FrameCache(tmp_path, 20_000), len(list(old.files()))
    assert before == 12 and sum(size for _, size, _ in new.files()) <= 20_000
    for k in range(100, 110):
        new.put(new.key(k), noise(k))
        assert sum(size for _, size, _ in new.files()) <= 20_000
    assert all(new.get(new.key(k), noise(k).shape) is not None for k in range(100, 110))
    assert new.get(new.key(0), noise(0).shape) is None and not new.full


def test_a_cache_full_of_its_own_files_stops_and_says_so_once(tmp_path, capsys):
    cache = FrameCache(tmp_path, 5_000)
    for k in range(20):
        cache.put(cache.key(k), noise(k))
    assert cache.full and 0 < sum(size for _, size, _ in cache.files()) <= 5_000
    assert capsys.readouterr().err.count("--cache-limit") == 1
    assert cache.get(cache.key(0), noise(0).shape) is not None  # what is there stays


def snapshot(folder):
    """{path: content} of everything in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_others_are_neither_counted_nor_removed(tmp_path):
    (tmp_path / OWN / "ab").mkdir(parents=True)
    theirs = FrameCache(tmp_path / "before", 3_000)  # makes its folder, into which others then put their files
    theirs.put(theirs.key(0), noise(0))
    for place in (tmp_path, tmp_path / "before", tmp_path / "before" / OWN, tmp_path / "before" / OWN / "ab"):
        place.mkdir(exist_ok=True)
        for name in ("thesis.tar", "photo.frames", "0" * 30 + ".frames.txt", "f" * 29 + ".frames"):
            (place / name).write_bytes(bytes(9_000))
            os.utime(place / name, (1, 1))
    before = snapshot(tmp_path)
    cache = FrameCache(tmp_path / "before", 3_000)
    for k in range(100, 110):
        cache.put(cache.key(k), noise(k))
    kept = [path for path in before if not path.name.endswith(".frames") or path.name in ("photo.frames", "f" * 29 + ".frames")]
    assert all(path.read_bytes() == before[path] for path in kept) and len(kept) >= 16
    assert cache.get(cache.key(100), noise(0).shape) is not None


def test_a_folder_without_the_tag_is_somebody_elses(tmp_path, capsys):
    for content in (None, b"Signature: 8a477f597d28d172789f06886806bc55\n# of another program"):
        folder = tmp_path / str(content is None) / OWN
        (folder / "ab").mkdir(parents=True)
        (folder / "ab" / ("0" * 30 + ".frames")).write_bytes(bytes(9_000))
        if content is not None:
            (folder / "CACHEDIR.TAG").write_bytes(content)
        before, cache = snapshot(folder), FrameCache(folder.parent, 10_000)
        cache.put(cache.key(0), noise(0))
        assert cache.full and snapshot(folder) == before and "minisnn" in capsys.readouterr().err


def test_what_others_wrote_is_never_served(tmp_path):
    cache, shape = FrameCache(tmp_path, 10**6), noise(0).shape
    one, two = cache.key(1), cache.key(2)
    cache.put(one, noise(1))
    cache.put(two, noise(2))
    for content in (
        zlib.compress(noise(3).tobytes()),
        pathlib.Path(cache.path(two)).read_bytes(),
        HEAD + bytes(16) + zlib.compress(noise(1).tobytes()),
        zlib.compress(bytes(10**8), 9),
    ):
        pathlib.Path(cache.path(one)).write_bytes(content)
        assert cache.get(one, shape) is None
    cache.put(one, noise(1))
    assert (cache.get(one, shape) == noise(1)).all() and cache.get(one, shape[::-1]) is None


def test_a_folder_that_vanishes_in_use_is_made_again(tmp_path):
    cache = FrameCache(tmp_path / "c", 10**6)
    for k in range(3):
        cache.put(cache.key(k), noise(k))
        shutil.rmtree(tmp_path / "c")
        assert cache.get(cache.key(k), noise(k).shape) is None
    cache.put(cache.key(9), noise(9))
    assert not cache.full and (cache.get(cache.key(9), noise(9).shape) == noise(9)).all()


def test_a_full_disk_costs_only_time_and_leaves_no_part(tmp_path, monkeypatch, capsys):
    cache = FrameCache(tmp_path, 10**6)
    cache.put(cache.key(0), noise(0))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("replace", "makedirs"):
        again = FrameCache(tmp_path, 10**6)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            again.put(again.key(1), noise(1))
        assert again.full and capsys.readouterr().err.count("No space left") == 1
    assert [path for _, _, path in cache.files() if path.endswith(".part")] == []
    assert (cache.get(cache.key(0), noise(0).shape) == noise(0)).all()


def test_on_windows_a_file_in_use_stays_and_the_cache_goes_on(tmp_path, monkeypatch):
    cache = FrameCache(tmp_path, 10**6)
    cache.put(cache.key(0), noise(0))

    def refuse(*_):
        raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        cache.put(cache.key(0), noise(0))
    assert not cache.full and len(list(cache.files())) == 1


def test_parts_of_killed_processes_are_removed_when_they_are_old(tmp_path):
    cache = FrameCache(tmp_path, 10**6)
    cache.put(cache.key(0), noise(0))
    old, new = (pathlib.Path(f"{cache.path(cache.key(k))}.{'0' * 16}.part") for k in (0, 0xABC))
    for path, age in ((old, 10_000), (new, 10)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    again = FrameCache(tmp_path, 10**6)
    again.put(again.key(1), noise(1))
    assert not old.exists() and new.exists()


def test_two_processes_share_a_cache(tmp_path):
    caches = [FrameCache(tmp_path / "c", 10**6) for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda pair: [pair[1].put(pair[1].key(k), noise(k)) for k in range(5 * pair[0] % 7, 12)], enumerate(caches)
            )
        )
    assert not any(cache.full for cache in caches)
    assert all((caches[0].get(caches[0].key(k), noise(k).shape) == noise(k)).all() for k in range(6, 12))


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = FrameCache(tmp_path / "file" / "cache", 10**6)
    cache.put(cache.key(0), noise(0))
    assert cache.full and "cannot be written" in capsys.readouterr().err and cache.get(cache.key(0), noise(0).shape) is None


def test_nothing_half_written_is_left(tmp_path):
    cache = FrameCache(tmp_path, 10**6)
    for k in range(5):
        cache.put(cache.key(k), noise(k))
    assert all(path.endswith(".frames") for _, _, path in cache.files())


# ---- augmentation --------------------------------------------------------------------------------------------------------


def test_augmentation_shifts_and_flips_all_steps_alike():
    frames, rng = noise(0, 8), np.random.default_rng(0)
    assert (moved(frames, Moves(), rng) == frames).all()
    flips = [moved(frames, Moves(flip=True), rng) for _ in range(30)]
    mirrored = [bool((f == frames[..., ::-1]).all()) for f in flips]
    assert 5 < sum(mirrored) < 25 and all(m or (f == frames).all() for m, f in zip(mirrored, flips))
    framed = np.pad(frames, ((0, 0), (0, 0), (2, 2), (2, 2)))  # room on every side, so that nothing leaves
    seen = set()
    for _ in range(60):
        there = moved(framed, Moves((2 / 12, 1 / 12)), rng)
        assert there.sum(dtype=int) == framed.sum(dtype=int)
        offsets = [(dy, dx) for dy in range(-2, 3) for dx in range(-1, 2) if (np.roll(framed, (dy, dx), (2, 3)) == there).all()]
        seen |= set(offsets)
    assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-1, 2)}


def test_a_quarter_turn_is_exact():
    class Fixed:
        integers = staticmethod(lambda a, b: 0)
        uniform = staticmethod(lambda a, b: b)

    frames = noise(1, 7)
    turned = moved(frames, Moves(degrees=90), Fixed)
    assert (turned == np.rot90(frames, -1, (2, 3))).all() or (turned == np.rot90(frames, 1, (2, 3))).all()
    assert turned.dtype == np.uint8


# ---- order of time -------------------------------------------------------------------------------------------------------


class Numbered(Samples):
    """Sample k shows 10 k + t at time step t."""

    labels, size, timesteps = np.arange(5), (1, 1, 1), 6

    def batch(self, indices, rng=None):
        return (10.0 * np.asarray(indices)[None] + np.arange(6)[:, None]).astype(np.float32)[:, :, None, None, None]


def test_shuffled_time_keeps_the_frames_and_loses_their_order():
    x, again = ShuffledTime(Numbered()).batch([0, 3, 4]), ShuffledTime(Numbered()).batch([3])
    assert (np.sort(x, 0) == Numbered().batch([0, 3, 4])).all() and (x != Numbered().batch([0, 3, 4])).any()
    assert (x[:, 1] == again[:, 0]).all()  # a sample's order does not hang on its batch
    assert (x[:, 0] != x[:, 1] - 30).any()
