"""Recordings of event cameras written by the tests, in tonic's folders."""

import importlib.util
import struct

import numpy as np
import pytest

AEDAT_EVENT = np.dtype(
    {"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "?"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def needs_tonic():
    """Skip a test where tonic, which decodes recordings, is not installed."""
    if importlib.util.find_spec("tonic") is None:
        pytest.skip('event data needs tonic: pip install "minisnn[events]"')


def some_events(seed, count=200, size=34, duration=300_000):
    """x, y, t (microseconds), p of events at random places and times."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, size, (2, count))
    return x, y, np.sort(rng.integers(0, duration, count)), rng.integers(0, 2, count)


def write_bin(path, x, y, t, p):
    """N-MNIST: x, y, then the polarity in the first of 24 bits and the time in the others."""
    needs_tonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tofile(path)


def write_npy(path, x, y, t, p):
    """DVS Gesture as tonic packs it: x, y, p, t in milliseconds."""
    needs_tonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([x, y, p, t / 1000], 1).astype(np.float32))


def write_aedat4(path, x, y, t, p, size=128):
    """AEDAT 4 without compression: one stream, one packet of events.

    Header and packet are flatbuffers, laid out by hand: the offset of the root table, an identifier, the offsets of the table's
    fields (vtable), the table, and what it points to.
    """
    needs_tonic()
    pytest.importorskip("aedat", reason="reading .aedat4 needs the package aedat")
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = "".join(
        f'<attr key="{key}" type="string">{value}</attr>'
        for key, value in (
            ("compression", "NONE"),
            ("originalModuleName", "test"),
            ("originalOutputName", "events"),
            ("typeIdentifier", "EVTS"),
            ("typeDescription", "Array of events (polarity ON/OFF)."),
        )
    )
    xml = (
        f'<dv version="2.0"><node name="outInfo" path="/outInfo/"><node name="0" path="/outInfo/0/">{attributes}'
        f'<node name="info" path="/outInfo/0/info/"><attr key="sizeX" type="int">{size}</attr>'
        f'<attr key="sizeY" type="int">{size}</attr><attr key="source" type="string">test</attr>'
        "</node></node></node></dv>"
    ).encode()
    # fields of the header: compression, place of a table of packets, XML
    header = (
        struct.pack("<I4s", 24, b"IOHE")
        + struct.pack("<5H6x", 10, 24, 4, 16, 8)
        + struct.pack("<iiI4xq", 16, 0, 16, -1)
        + struct.pack("<I", len(xml))
        + xml
        + b"\0"
    )
    events = np.zeros(len(t), AEDAT_EVENT)
    events["t"], events["x"], events["y"], events["on"] = t, x, y, p
    body = (
        struct.pack("<I4s", 16, b"EVTS")
        + struct.pack("<3H2x", 6, 8, 4)
        + struct.pack("<iI", 8, 4)
        + struct.pack("<I", len(events))
        + events.tobytes()
    )
    packet = struct.pack("<I", len(body)) + body
    path.write_bytes(
        b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + struct.pack("<II", 0, len(packet)) + packet
    )


def write_nmnist(root, parts=("Train",), digits=(3, 7), each=10):
    for part in parts:
        for digit in digits:
            for k in range(each):
                write_bin(root / "NMNIST" / part / str(digit) / f"{k:05}.bin", *some_events((digit, k, part == "Test")))
    return root


def write_dvsgesture(root, labels=(0, 2, 10), parts=("ibmGestureTrain",), duration=1_450_000):
    for part in parts:
        for user in ("user01_led", "user02_lab"):
            for label in labels:
                write_npy(
                    root / "DVSGesture" / part / user / f"{label}.npy", *some_events((label, len(user)), 900, 128, duration)
                )
    return root


def write_cifar10dvs(root, classes=CIFAR10[:2], each=10):
    for label, name in enumerate(classes):
        for k in range(each):
            x, y, t, p = some_events((label, k), 300, 128, 1_200_000)
            write_aedat4(root / "CIFAR10DVS" / name / f"cifar10_{name}_{k}.aedat4", x, y, t + 10**12, p)
    return root
