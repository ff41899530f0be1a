"""Data sets of recordings: tonic's folders, windows of recordings, and the split into training and test.

tonic's dataset classes download unless they find the original archive and most of the files; so they are used only for the
download, and an existing folder is read as it is, however few recordings it holds.

Axes: T time steps, H height, W width; n events, M samples.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

import numpy as np

from ..catalogue import CATALOGUE, Moves
from ..errors import UsageError
from .base import Dataset, stratified_folds, stratified_split
from .cache import FrameCache
from .events import MEND, Recording, class_names, one_line, sensor_of, tonic_class
from .frames import EventSamples, FrameOptions
from .places import CACHE_LIMIT, cache_folder

__all__ = ["load", "windows", "event_dataset"]

TEST_SHARE = 0.1  # of recordings that come without an official test part


# ---- windows -----------------------------------------------------------------------------------------------------------


def windows(duration: int, window: int, stride: int, begin: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Windows of the part of a recording from ``begin`` to ``end``, all of them complete and within it.

    Args:
        duration: of the recording, microseconds.
        window, stride: length of each, and from the start of one to that of the next, microseconds.
        begin, end: of the part; by default all of the recording.

    Returns:
        list of (start, stop), microseconds.
    """
    end = duration if end is None else min(end, duration)
    return [(start, start + window) for start in range(begin, end - window + 1, stride)]


def cut_recordings(recordings, labels, window, stride, split_at=None):
    """(labels, parts) of the windows of all recordings; with ``split_at``, one pair for those before it, one for the others."""
    found: list[tuple[list, list]] = [([], []) for _ in range(1 if split_at is None else 2)]
    for r, (recording, label) in enumerate(zip(recordings, labels)):
        events = recording.events()
        duration = int(events["t"][-1] - events["t"][0]) + 1
        pieces = [(0, None)] if split_at is None else [(0, split_at), (split_at, None)]
        for (into_labels, into_parts), (begin, end) in zip(found, pieces):
            for start, stop in windows(duration, window, stride, begin, end):
                offsets = events["t"][0] + start, events["t"][0] + stop
                first, last = np.searchsorted(events["t"], offsets)
                if last > first:  # a window without a single event shows nothing
                    into_labels.append(label)
                    into_parts.append((r, start, stop))
    return [(np.array(chosen, np.int64), parts) for chosen, parts in found]


# ---- folders -----------------------------------------------------------------------------------------------------------


def find_folder(name, data_dir):
    """The folder of a data set: DIR/<tonic's name>, or DIR itself if it is that folder; None if there is none."""
    source = CATALOGUE[name].source
    for folder in (os.path.join(data_dir, source.tonic), data_dir):
        inside = set(source.parts.values()) or set(tonic_class(name).classes)
        # By their exact names, which a file system that takes "train" for "Train" ignores.
        if any(os.path.isdir(os.path.join(folder, part)) for part in inside & set(names_in(folder))):
            return folder
    return None


def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def is_hidden(name):
    """What systems leave in folders: .DS_Store, ._1.bin (macOS's second half of a file), __MACOSX of its archives."""
    return name.startswith((".", "__MACOSX"))


def walk(folder):
    """Like os.walk in order of names, also through links to folders; each folder once, however often it is reached, and
    nothing hidden.
    """
    seen = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield where, sorted((file for file in files if not is_hidden(file)), key=lambda f: (len(f), f))


def number_of_folder(path, tonic, classes):
    """<label>/*."""
    return number(os.path.basename(os.path.dirname(path)), classes)


def number_of_file(path, tonic, classes):
    """<label>.npy."""
    return number(os.path.splitext(os.path.basename(path))[0], classes)


def name_of_folder(path, tonic, classes):
    """<class>/*."""
    return tonic.classes.get(os.path.basename(os.path.dirname(path)))


def number(text, classes):
    """A label as given by a file's name; None if the name gives none."""
    return int(text) if text.isdecimal() and int(text) < classes else None


def list_recordings(name, folder):
    """(paths, labels int64) of all recordings in a folder and its subfolders, in order of their names."""
    paths, labels, row, tonic = [], [], CATALOGUE[name], tonic_class(name)
    label_of = globals()[row.source.label]
    for where, files in walk(folder):
        for file in files:
            if file.endswith(row.source.ending):
                path = os.path.join(where, file)
                label = label_of(path, tonic, row.stem.classes)
                if label is None:
                    raise UsageError(f"{path}: no class can be read from this path; tonic's layout is {row.source.layout}")
                paths.append(path)
                labels.append(label)
    return paths, np.array(labels, np.int64)


def download(name, data_dir):
    """Let tonic fetch a data set."""
    source, cls = CATALOGUE[name].source, tonic_class(name)
    folder = os.path.join(data_dir, source.tonic)
    calls: list[dict[str, bool]] = [dict(train=True), dict(train=False)] if source.parts else [{}]
    for arguments in calls:
        part = {True: "train_", False: "test_", None: ""}[arguments.get("train")]
        url, file = (getattr(cls, part + field) for field in ("url", "filename"))
        archive, checksum = os.path.join(folder, file), getattr(cls, part + "md5", None) or getattr(cls, "file_md5", None)
        was_there = os.path.lexists(archive)
        manual = (
            f"fetch {file} by hand (tonic's address: {url}) and unpack it to {source.layout} in {data_dir}, "
            "or say with --data-dir where the recordings are"
        )
        try:
            os.makedirs(data_dir, exist_ok=True)
            cls(save_to=data_dir, **arguments)
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # of the network, the archive or the disk: tonic lets all of them through
            why = f"tonic's download failed ({one_line(error)})"
            if os.path.isfile(archive) and md5(archive) == checksum:
                why = f"tonic could not unpack {archive} ({one_line(error)}), which is intact and was kept"
            elif os.path.isfile(archive) and not was_there:
                size = os.path.getsize(archive)
                os.unlink(archive)  # a broken archive would be taken for the real one next time
                verdict = "is empty" if size == 0 else "does not pass its check"
                why = f"tonic's download came with {size:,} bytes and {verdict} ({one_line(error)})"
            for empty in (folder, data_dir):  # leave nothing that looks like a data set
                if os.path.isdir(empty) and not os.listdir(empty):
                    os.rmdir(empty)
            raise UsageError(f"{name} is not in {data_dir}, and {why}; {manual}") from None


def md5(path):
    hashed = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


# ---- data sets ---------------------------------------------------------------------------------------------------------


def load(
    name: str,
    data_dir: str,
    timesteps: int,
    seed: int = 0,
    augment: bool | str | None = None,
    slicing: str = "count",
    frame_size: int | None = None,
    window: float | None = None,
    stride: float | None = None,
    split_at: float | None = None,
    skip_bad: bool = False,
    cache: str | None = None,
    cache_limit: float = CACHE_LIMIT,
    keep_out: list[str] | None = None,
    folds: int | None = None,
) -> Dataset:
    """See ``data.load``.

    Args:
        augment: small random moves in training (for CIFAR10-DVS the paper's flips and shifts); by default as in the recipe.
        slicing: "count", T slices of equally many events, or "time", of equal length.
        frame_size: height and width of the frames; by default the sensor's.
        window, stride: milliseconds; cut recordings into samples of this length, one every ``stride`` (half a window).
        split_at: milliseconds from a recording's first event: windows before it train, windows from there on test.
        skip_bad: read all recordings first, omit those that cannot be used, and count them; otherwise the first of them
            is an error when its turn comes.
        cache: folder of the frames, see ``cache_folder``; "none" for no cache.
        cache_limit: gigabytes that the folder may occupy.
        keep_out: names of the recordings that a run has held out, to hold out the same ones if the copy has grown since.
        folds: of a copy without an official test part: this many stratified parts, of which the one with the number ``seed``
            tests; by default one recording in ten of each class, drawn by the seed.
    """
    row, folder = CATALOGUE[name], find_folder(name, data_dir)
    source = row.source
    tonic_class(name)  # if tonic is missing, say so now and not at the first recording
    if folder is None:
        announce_download(name, data_dir)
        download(name, data_dir)
        folder = find_folder(name, data_dir)
    found = {}
    for part, sub in (source.parts or {"all": "."}).items():
        paths, labels = list_recordings(name, os.path.normpath(os.path.join(folder, sub)))
        if paths:
            found[part] = ([Recording(name, path, folder) for path in paths], labels)
    if not found:
        raise UsageError(f"{folder} holds no {source.ending} files; tonic's layout is {source.layout}")
    options = FrameOptions(timesteps, sensor_of(name), slicing, frame_size)
    moves = row.augmentation(row.recipe.augment if augment is None else augment)
    return event_dataset(
        name,
        class_names(name),
        found,
        options,
        seed,
        moves,
        f"found in {folder}",
        "official",
        window,
        stride,
        split_at,
        skip_bad,
        cache,
        cache_limit,
        keep_out,
        folds,
    )


def announce_download(name, data_dir):
    text = f"minisnn: {name} is not in {data_dir}: tonic downloads it there, about {CATALOGUE[name].source.gigabytes} GB"
    print(text, file=sys.stderr, flush=True)


def event_dataset(
    name: str,
    classes: tuple[str, ...],
    found: dict[str, tuple[list, np.ndarray]],
    options: FrameOptions,
    seed: int,
    moves: Moves | None,
    where: str,
    split: str,
    window: float | None = None,
    stride: float | None = None,
    split_at: float | None = None,
    skip_bad: bool = False,
    cache: str | None = None,
    cache_limit: float = CACHE_LIMIT,
    keep_out: list[str] | None = None,
    folds: int | None = None,
) -> Dataset:
    """A Dataset from recordings.

    Args:
        found: {"train" or "test" or "all": (recordings, labels)}; "all", and "train" without "test", is split 9 to 1.
        options: FrameOptions.
        moves: catalogue.Moves of augmentation, None for none.
        where: "found in ..." or "made by ...", for the note.
        split: what to call the split into "train" and "test".
        Others as for ``load``.
    """
    window, stride, split_at = milliseconds(window, stride, split_at)
    if folds is not None and (split_at is not None or "test" in found):
        why = "--split-at divides each recording" if split_at is not None else f"{name} comes with a test part of its own"
        raise UsageError(f"--folds: {why}; omit it")
    skipped: list[str] = []
    if skip_bad:
        found = {part: usable(recordings, labels, skipped) for part, (recordings, labels) in found.items()}
        found = {part: content for part, content in found.items() if content[0]}
        if not found:
            raise UsageError(f"{name}: none of the {len(skipped)} recordings {where} can be used; the first: {skipped[0]}")
    facts: dict[str, Any] = {"recordings": {part: len(content[0]) for part, content in found.items()}, "skipped": len(skipped)}
    folder = cache_folder(cache)
    cache_files = None if folder is None else FrameCache(folder, int(cache_limit * 1e9))

    def samples(recordings, labels, parts, training):
        if len(labels) == 0:
            return None
        return EventSamples(recordings, labels, parts, options, moves if training else None, cache_files)

    if split_at is not None:
        recordings = [r for content in found.values() for r in content[0]]
        labels = np.concatenate([content[1] for content in found.values()])
        (train_labels, train_parts), (test_labels, test_parts) = cut_recordings(recordings, labels, window, stride, split_at)
        train, test = samples(recordings, train_labels, train_parts, True), samples(recordings, test_labels, test_parts, False)
        facts |= {"split": f"within each recording, at {split_at / 1000:g} ms"}
        if train is None or test is None:
            raise UsageError(
                f"--split-at {split_at / 1000:g}: no window of {window / 1000:g} ms fits on one side of it; give "
                "another --split-at or a shorter --window"
            )
    else:
        if "test" in found:
            facts |= {"split": split}
        else:
            recordings, labels = found.get("all") or found["train"]
            names = [recording.short for recording in recordings]
            if keep_out is not None:
                train, test = kept_out(names, keep_out)
            else:
                train, test = held_out(labels, seed) if folds is None else stratified_folds(labels, folds, seed)
            how = "stratified, 9 in 10 train" if folds is None else f"fold {seed} of {folds} tests"
            if not len(test):
                how = "no test part: one recording of each class; cut them by --window and --split-at"
            facts |= {"split": how, "split_seed": seed, "held_out": [names[k] for k in test]}
            chosen = {"train": train, "test": test} if len(test) else {"train": train}
            found = {part: ([recordings[k] for k in numbers], labels[numbers]) for part, numbers in chosen.items()}
        made = {}
        for part, (recordings, labels) in found.items():
            parts = [(k, None, None) for k in range(len(recordings))]
            if window is not None:
                ((labels, parts),) = cut_recordings(recordings, labels, window, stride)
                if not parts:
                    raise UsageError(f"--window {window / 1000:g}: every {part} recording is shorter; give a shorter --window")
            made[part] = samples(recordings, labels, parts, part == "train")
        train, test = made.get("train"), made.get("test")
    facts |= {"train": len(train or ()), "test": len(test or ())}
    total = sum(facts["recordings"].values())
    note = f"{name}: {total:,} recordings {where}"
    note += f", {len(skipped):,} more omitted (the first: {skipped[0]})" if skipped else ""
    what = "windows" if window else "samples"
    note += f"; {facts['train']:,} {what} to train on, {facts['test']:,} to test on ({facts['split']})"
    return Dataset(name, name, classes, train, test, note, facts)


def held_out(labels, seed):
    """Numbers of the training and of the test recordings: one in ten of each class, at least one, but never its only one."""
    train, test = stratified_split(labels, TEST_SHARE, seed)
    counts = np.bincount(labels)
    alone = test[counts[labels[test]] == 1]
    return np.union1d(train, alone), np.setdiff1d(test, alone)


def kept_out(names, keep_out):
    """Numbers of the training and of the test recordings if their names say which are held out."""
    test = np.isin(names, [name.replace("\\", "/") for name in keep_out])  # as Windows wrote them in earlier versions
    if not test.any():
        raise UsageError(
            f"none of the {len(keep_out)} recordings that the run has held out, such as {keep_out[0]}, is in this "
            "copy; give the --data-dir that it was trained on, or a copy with an official test part"
        )
    return np.flatnonzero(~test), np.flatnonzero(test)


def milliseconds(window, stride, split_at):
    """Options in milliseconds -> whole microseconds, checked."""
    for flag, value in (("--window", window), ("--stride", stride), ("--split-at", split_at)):
        if value is not None and not (np.isfinite(value) and value * 1000 >= 1):
            raise UsageError(f"{flag}: {value} is out of range; give milliseconds, above 0")
    if window is None and (stride is not None or split_at is not None):
        flag = "--stride" if stride is not None else "--split-at"
        raise UsageError(f"{flag} needs --window, the length of a sample in milliseconds")
    if window is None:
        return None, None, None
    stride = window / 2 if stride is None else stride
    return round(window * 1000), max(1, round(stride * 1000)), None if split_at is None else round(split_at * 1000)


def usable(recordings, labels, skipped):
    """The recordings that can be read, and their labels; what is wrong with each of the others is added to ``skipped``."""
    good = []
    for k, recording in enumerate(recordings):
        try:
            recording.events()
            good.append(k)
        except UsageError as error:
            skipped.append(str(error).removesuffix(f"; {MEND}"))
    return [recordings[k] for k in good], labels[good]
