"""Small networks without maps, and the spoken digits that some of them are for."""

import subprocess
import sys

import numpy as np
import pytest

from minisnn import Tensor, UsageError, data, energy, models, nn, ops, optim, train

h5py = pytest.importorskip("h5py")


def digits():
    """The digits as rows of 8 pixels from 0 to 2: (x [M, 8, 8], labels)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.float32) / 8, bunch.target


def learn(net, samples, epochs, lr=5e-3, batch_size=64):
    optimizer = optim.Adam(net.parameters(), lr=lr)
    for epoch in range(epochs):
        for x, y in data.Loader(samples, batch_size, epoch=epoch, shuffle=True):
            optimizer.zero_grad()
            ops.cross_entropy(net(x), y).backward()
            optimizer.step()


@pytest.mark.parametrize("by_rows", [False, True])
def test_they_learn_the_digits(by_rows):
    x, labels = digits()
    samples = data.Arrays(x[:600], labels[:600]) if by_rows else data.Arrays(x[:600].reshape(-1, 64), labels[:600], 4)
    test = data.Arrays(x[600:900], labels[600:900]) if by_rows else data.Arrays(x[600:900].reshape(-1, 64), labels[600:900], 4)
    net = models.recurrent((8, 48, 10), seed=0) if by_rows else models.fully_connected((64, 48, 48, 10), seed=0)
    learn(net, samples, 12, batch_size=16 if by_rows else 64)
    found = train.evaluate(net, test, loss="ce")
    assert found["accuracy"] > (0.7 if by_rows else 0.85)
    rows = {row.name: row for row in found["report"].layers}
    assert rows["layers.0"].mac > 0 and rows["head"].ac > 0 and rows["head"].mac == 0
    if by_rows:
        assert net.layers[1].neurons.tau != 2
    else:
        assert rows["layers.2"].ac > 0 and rows["layers.2"].mac == 0


@pytest.mark.parametrize("make", [models.fully_connected, models.recurrent])
def test_what_they_are(make):
    net = make((6, 5, 4, 3), neuron="lif", dtype="float64", seed=0, tau=3.0)
    x = np.random.default_rng(0).normal(0, 3, (4, 2, 1, 2, 3))
    assert net(x).shape == (2, 3) and net(x).dtype == np.float64 and net.steps(x).shape == (4, 2, 3)
    assert np.array_equal(net(x).data, net(x.reshape(4, 2, 6)).data) and np.array_equal(
        net(x).data, make((6, 5, 4, 3), neuron="lif", dtype="float64", seed=0, tau=3.0)(Tensor(x)).data
    )
    neurons = [m for m in net.modules() if type(m) is nn.LIF]
    assert len(neurons) == 2 and all(n.options["tau"] == 3 for n in neurons)
    assert len([m for m in net.modules() if isinstance(m, nn.Recurrent)]) == (2 if make is models.recurrent else 0)
    assert [p.shape for p in net.parameters()][-2:] == [(3, 4), (3,)]
    stream = nn.Stream(net)
    assert np.array_equal([stream(x[t : t + 1]).data for t in range(4)][-1], net.eval()(x).data)
    assert energy.measure(net, x).samples == 2
    for wrong in ((6, 3), (6, 0, 3), (6, 2.5, 3), (6, True, 3)):
        with pytest.raises(ValueError, match="sizes is"):
            make(wrong)
    with pytest.raises(ValueError, match="neuron is 'x'; give one of lif"):
        make(neuron="x")


# ---- the Spiking Heidelberg Digits ---------------------------------------------------------------------------------------


def write(path, recordings, labels, **instead):
    """A file as its authors give it away: times in seconds as float16, units, labels and the names of the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for field, dtype, k in (("times", np.float16, 0), ("units", np.uint16, 1)):
            values = file.create_dataset(f"spikes/{field}", (len(recordings),), h5py.vlen_dtype(dtype))
            for row, recording in enumerate(recordings):
                values[row] = np.asarray(recording[k], dtype)
        file["labels"] = np.asarray(labels)
        for name, array in instead.items():
            del file[name]
            file[name] = array
        file["extra/keys"] = [str(k) for k in range(20)]


RECORDINGS = [([0.0, 0.5, 0.5, 1.25], [0, 699, 3, 9]), ([1.375, 1.5], [5, 6]), ([], [])]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "SHD" / "shd_train.h5", RECORDINGS, [0, 19, 7])
    write(tmp_path / "SHD" / "shd_test.h5", RECORDINGS[:1], [3])
    return tmp_path


def test_recordings_become_frames(folder):
    dataset = data.load("shd", str(folder), timesteps=14)
    assert len(dataset.train) == 3 and len(dataset.test) == 1 and dataset.train.labels.tolist() == [0, 19, 7]
    assert dataset.classes[0] == "English 0" and len(dataset.classes) == 20 and "3 recordings to train on" in dataset.note
    x = dataset.train.batch([0, 1, 2])
    assert x.shape == (14, 3, 700, 1, 1) and x.dtype == bool
    assert [tuple(map(int, at[:3])) for at in np.argwhere(x)] == [(0, 0, 0), (5, 0, 3), (5, 0, 699), (12, 0, 9), (13, 1, 5)]
    assert Tensor(x).is_spikes and data.load("shd", str(folder)).train.timesteps == 100
    (folder / "SHD" / "shd_test.h5").unlink()
    assert data.load("shd", str(folder)).test is None


def test_augmentation_moves_a_recording_along_the_channels(folder):
    plain, moved = (data.load("shd", str(folder), timesteps=7, augment=on).train for on in (False, True))
    rng = np.random.default_rng(0)
    shifts = set()
    for _ in range(40):
        for place in np.argwhere(moved.batch([0], rng)[4:]):  # unit 9 at 1.25 s, unless it has moved out
            shifts.add(int(place[2]) - 9)
    assert len(shifts) > 10 and min(shifts) >= -9 and max(shifts) <= 20
    assert np.array_equal(moved.batch([0]), plain.batch([0], rng))


def test_a_recurrent_network_learns_recordings(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    recordings = [(np.sort(rng.uniform(0, 1.3, 60)), rng.integers(0, 200, 60) + 300 * label) for label in labels]
    write(tmp_path / "SHD" / "shd_train.h5", recordings, labels)
    samples = data.load("shd", str(tmp_path), timesteps=10).train
    net = models.recurrent((700, 32, 20), neuron="lif", seed=0, gain=8)
    learn(net, samples, 10, batch_size=20)
    found = train.evaluate(net, samples, loss="ce")
    assert found["accuracy"] > 0.9 and found["report"].mac == 0  # spikes all the way


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda path: path.write_bytes(b"no HDF5"), "shd_train.h5 is damaged"),
        (lambda path: write(path, RECORDINGS, [0, 1]), "3 times, 3 units and 2 labels"),
        (lambda path: write(path, RECORDINGS, [0, 1, 20]), "labels other than 0 to 19"),
        (lambda path: write(path, RECORDINGS, [0.0, 1.0, 2.0]), "labels other than 0 to 19"),
        (lambda path: write(path, [([0.1], [700]), ([0.1], [1])], [0, 1]), "recording 0 has times or units out of range"),
        (lambda path: write(path, [([0.1], [1]), ([-0.1], [1])], [0, 1]), "recording 1 has"),
        (lambda path: write(path, [([np.nan], [1])], [0]), "recording 0 has"),
        (lambda path: write(path, [([0.1, 0.2], [1])], [0]), "recording 0 has"),
        (lambda path: write(path, RECORDINGS, [0, 1, 2], **{"spikes/units": np.zeros(3)}), "recording 0 has|damaged"),
    ],
)
def test_damaged_files_are_refused_in_one_line(folder, damage, words):
    damage(folder / "SHD" / "shd_train.h5")
    with pytest.raises(UsageError, match=words) as found:
        data.load("shd", str(folder))
    assert "shd_train.h5" in str(found.value) and "\n" not in str(found.value)


def test_missing_files_and_names(tmp_path):
    with pytest.raises(UsageError, match=r"shd is not in .*shd_train\.h5\.zip.*SHD"):
        data.load("shd", str(tmp_path))
    with pytest.raises(UsageError, match="there is no data set 'sdh'; give one of digits.*shd"):
        data.load("sdh")
    with pytest.raises(UsageError, match="--normalize has no meaning"):
        data.load("shd", str(tmp_path), normalize=True)
    with pytest.raises(ValueError, match="preset is 'shd'"):
        models.build("shd")


def test_h5py_is_imported_late():
    code = "import sys, minisnn, minisnn.data.sounds, minisnn.models; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
