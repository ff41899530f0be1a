"""Still images: scikit-learn's digits, MNIST and Fashion-MNIST from IDX files. Each image is shown T times.

Axes: T time steps, B batch, C = 1 channel, H height, W width; M images.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence

import numpy as np

from ..catalogue import CATALOGUE, Moves
from ..errors import UsageError
from ..files import replace
from ..types import Path
from .base import Dataset, Samples, Subset, stratified_folds, stratified_split

__all__ = ["load", "read_idx", "warp", "Images"]

TEST_SHARE = 0.2  # of the digits
LARGEST = 1 << 28  # bytes that a compressed IDX file may unpack to; the largest of MNIST has 47 MB


def warp(images: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
    """Images seen through affine maps, with bilinear interpolation and zeros outside.

    Args:
        images: [B, H, W].
        matrices: [B, 2, 3] or [1, 2, 3]; they map (row, column, 1) of the result to (row, column) of the image, pixels, both
            counted from the center of the map.
        size: height and width of the result.

    Returns:
        float32 [B, size, size].
    """
    B, H, W = images.shape
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    grid = np.stack([np.repeat(axis, size), np.tile(axis, size), np.ones(size * size, np.float32)])  # [3, size * size]
    at = matrices.astype(np.float32) @ grid + np.array([[(H - 1) / 2], [(W - 1) / 2]], np.float32)
    low = np.floor(at).astype(np.int64)
    part = at - low
    padded = np.zeros((B, H + 2, W + 2), np.float32)
    padded[:, 1:-1, 1:-1] = images
    of, out = np.arange(B)[:, None], np.zeros((B, size * size), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            i, j = np.clip(low[:, 0] + down + 1, 0, H + 1), np.clip(low[:, 1] + right + 1, 0, W + 1)
            out += padded[of, i, j] * ((part if down else 1 - part)[:, 0] * (part if right else 1 - part)[:, 1])
    return out.reshape(B, size, size)


def random_matrices(rng, count, moves, size, scale):
    """[count, 2, 3] for ``warp``; ``size``: height and width of the result; ``scale``: pixels of the image per pixel of it."""
    turn = np.deg2rad(rng.uniform(-moves.degrees, moves.degrees, count))
    zoom = scale * (1 + rng.uniform(-moves.zoom, moves.zoom, count))
    most = size * np.array(moves.shift)
    shift = scale * rng.uniform(-most, most, (count, 2))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if moves.flip else np.ones(count)
    rows = np.stack([zoom * np.cos(turn), -zoom * np.sin(turn) * mirror, shift[:, 0]], -1)
    columns = np.stack([zoom * np.sin(turn), zoom * np.cos(turn) * mirror, shift[:, 1]], -1)
    return np.stack([rows, columns], 1)


class Images(Samples):
    """Images, each shown T times.

    Args:
        pixels: uint8 [M, H, W].
        labels: [M].
        timesteps: T.
        size: height and width to show them at.
        white: the value that becomes 1 (0 stays 0).
        moves: catalogue.Moves of augmentation, None for none.
        normalize: show them from -1 to 1, (x - 0.5) / 0.5, in place of 0 to 1.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        timesteps: int,
        size: int,
        white: int = 255,
        moves: Moves | None = None,
        normalize: bool = False,
    ) -> None:
        self.normalize = normalize
        self.pixels, self.labels, self.timesteps = pixels, labels.astype(np.int64), timesteps
        self.size, self.white, self.moves = (1, size, size), np.float32(white), moves

    def batch(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return self.rows(indices, rng, slice(None))

    def rows(self, indices: Sequence[int] | np.ndarray, rng: np.random.Generator | None, rows: slice) -> np.ndarray:
        x, size = self.pixels[indices[rows]], self.size[1]
        scale = x.shape[1] / size
        if rng is not None and self.moves is not None:
            x = warp(x, random_matrices(rng, len(indices), self.moves, size, scale)[rows], size)
        elif size != x.shape[1]:
            x = warp(x, np.array([[[scale, 0, 0], [0, scale, 0]]]), size)
        x = np.divide(x, self.white, dtype=np.float32)[:, None]
        if self.normalize:
            x = (x - np.float32(0.5)) / np.float32(0.5)
        return np.broadcast_to(x, (self.timesteps,) + x.shape)


def load(
    name: str,
    data_dir: str,
    timesteps: int,
    seed: int = 0,
    augment: bool | str = True,
    normalize: bool = False,
    folds: int | None = None,
) -> Dataset:
    """See ``data.load``. ``augment``: small random shifts, turns and zooms in training; Fashion-MNIST is mirrored as well, and
    with "paper" only mirrored. ``normalize``: pixels from -1 to 1. ``folds``: of the digits, the seed says which of them tests.
    """
    row = CATALOGUE[name]
    moves = row.augmentation(augment)
    if row.source is None:
        return digits(name, row, timesteps, seed, moves, normalize, folds)
    if folds is not None:
        raise UsageError(f"--folds: {name} comes with a test part of its own; omit it")
    return idx_images(name, row, data_dir, timesteps, moves, normalize)


def digits(name, row, timesteps, seed, moves, normalize, folds=None):
    """The 1,797 handwritten digits that come with scikit-learn, 8x8 pixels, enlarged because four halvings of the
    map would leave nothing of them.
    """
    from sklearn.datasets import load_digits  # late: it takes longer to import than everything else here

    bunch, size = load_digits(), row.stem.size
    samples = Images(bunch.images.astype(np.uint8), bunch.target, timesteps, size, white=16, moves=moves, normalize=normalize)
    if folds is None:
        (train, test), split = stratified_split(samples.labels, TEST_SHARE, seed), "stratified, 4 in 5 train"
    else:
        (train, test), split = stratified_folds(samples.labels, folds, seed), f"fold {seed} of {folds} tests"
    facts = {"split": split, "split_seed": seed, "train": len(train), "test": len(test)}
    note = f"{name}: {len(train):,} to train on, {len(test):,} to test on, 8x8 pixels enlarged to {size}x{size} (scikit-learn)"
    return Dataset(name, name, row.classes, Subset(samples, train), Subset(samples, test), note, facts)


# ---- IDX files -------------------------------------------------------------------------------------------------------


def idx_images(name, row, data_dir, timesteps, moves, normalize):
    source, size = row.source, row.stem.size
    folder = next((f for f in folders(source, data_dir) if any(find(f, part, "images") for part in ("train", "t10k"))), None)
    if folder is None:
        folder = os.path.join(data_dir, source.folder)
        download(name, source, folder)
    parts = {part: read_part(folder, part, timesteps, size, moves, normalize) for part in ("train", "t10k")}
    counts = {"train": len(parts["train"] or ()), "test": len(parts["t10k"] or ())}
    note = f"{name}: {counts['train']:,} to train on, {counts['test']:,} to test on, {size}x{size} pixels (in {folder})"
    return Dataset(
        name, name, row.classes, parts["train"], parts["t10k"], note, {"folder": folder, "split": "official", **counts}
    )


def folders(source, data_dir):
    """The folders where the files may be, in search order."""
    return [
        os.path.join(data_dir, source.folder),
        os.path.join(data_dir, source.folder.split("/")[0]),
        os.path.join(data_dir, "raw"),
        data_dir,
        *source.installed,
    ]


def find(folder, part, what):
    """The file of a part's images or labels, compressed or not; None if there is none."""
    dims = {"images": 3, "labels": 1}[what]
    for stem in (f"{part}-{what}-idx{dims}-ubyte", f"{part}-{what}.idx{dims}-ubyte"):
        for ending in ("", ".gz"):
            path = os.path.join(folder, stem + ending)
            if os.path.isfile(path):
                return path
    return None


def read_part(folder, part, timesteps, size, moves, normalize=False):
    """Images of "train" or "t10k"; None if the folder holds neither its images nor its labels."""
    files = {what: find(folder, part, what) for what in ("images", "labels")}
    if not any(files.values()):
        return None
    for what, path in files.items():
        if path is None:
            raise UsageError(
                f"{folder} holds no {part}-{what}-idx file to go with "
                f"{os.path.basename(next(filter(None, files.values())))}; "
                "restore it, or empty the folder to download the set again"
            )
    pixels, labels = read_idx(files["images"], 3), read_idx(files["labels"], 1)
    if len(pixels) != len(labels):
        raise UsageError(
            f"{files['images']} holds {len(pixels)} images, but {files['labels']} {len(labels)} labels; "
            "restore the pair from one source"
        )
    if pixels.shape[1:] != (size, size):
        raise UsageError(
            f"{files['images']} holds images of {pixels.shape[1]}x{pixels.shape[2]} pixels; this data set has {size}x{size}"
        )
    if labels.max() > 9:
        raise UsageError(f"{files['labels']} holds the label {labels.max()}; this data set has 0 to 9")
    return Images(pixels, labels, timesteps, size, moves=moves, normalize=normalize)


def read_idx(path: Path, dims: int) -> np.ndarray:
    """An IDX file of bytes, raw or compressed by gzip.

    The format: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as a big-endian 32-bit number, data.

    Returns:
        uint8 array of ``dims`` dimensions.

    Raises:
        UsageError: the file is missing, damaged, cut short or of another kind; the message names it.
    """
    fix = "restore it, or remove it to download the set again"
    start = 4 + 4 * dims
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if packed else contextlib.nullcontext(raw) as file:
                head = file.read(start)
                if len(head) < start or head[:4] != bytes([0, 0, 8, dims]):
                    raise UsageError(
                        f"{path} is not an IDX file of {dims}-dimensional bytes (it begins with "
                        f"{head[:4].hex() or 'nothing'}); {fix}"
                    )
                shape = tuple(int(n) for n in np.frombuffer(head, ">u4", dims, 4))
                size, room = math.prod(shape), LARGEST if packed else os.fstat(raw.fileno()).st_size
                # What a header declares is checked before memory is allocated for it.
                content = file.read(min(size, room) + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path} is damaged or cut short ({error}); {fix}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions") from None
    if size == 0 or len(content) != size:
        held = f"more than {size}" if len(content) > size else len(content)
        raise UsageError(f"{path} says it holds {' x '.join(map(str, shape))} bytes, but there are {held}; {fix}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def download(name, source, folder):
    """Fetch a data set's files; each is checked before it gets its name."""
    for file, checksum in source.md5.items():
        path = os.path.join(folder, file)
        manual = f"put {file} into {folder} by hand, or say with --data-dir or MINISNN_DATA where {name} is"
        try:
            with urllib.request.urlopen(source.url + file, timeout=30) as answer:
                content = answer.read(LARGEST)
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise UsageError(
                f"{name} is not in {folder} and cannot be downloaded from {source.url} ({reason}); {manual}"
            ) from None
        if hashlib.md5(content).hexdigest() != checksum:
            raise UsageError(f"{source.url}{file} came with {len(content)} bytes of a wrong checksum; {manual}")
        try:
            os.makedirs(folder, exist_ok=True)
            with replace(path) as target:
                target.write(content)
        except OSError as error:
            raise UsageError(f"{folder} cannot be written ({error.strerror or error}); give another --data-dir") from None
