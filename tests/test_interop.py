"""Weights in and out: names, definition order, shapes, safetensors files, and what is refused."""

import json
import pathlib
import struct

import numpy as np
import pytest
from parity import recipe

from minisnn import UsageError, files, interop, models, nn, no_grad

CASE = "mnist-or-t-a"


def small(seed=0, **options):
    return models.build("digits", **{"width": 8, "timesteps": 4, "attention": "t", "seed": seed, **options}).eval()


def scores(net):
    x = np.random.default_rng(0).random((4, 3, 1, 8, 8)).astype(net.parameters()[0].dtype)
    with no_grad():
        return net(x).data


def as_pytorch(net, counter=True):
    """The arrays of a network under names like those of torch.nn.Sequential, in PyTorch's order, counters included."""
    state, renamed = net.state_dict(), {}
    for k, name in enumerate(interop.arrays.in_order(net)):
        last = name.rpartition(".")[2]
        renamed[f"{k:03d}.{last if last.startswith('running') else 'weight'}"] = state[name]
        if last == "running_var" and counter:
            renamed[f"{k:03d}.num_batches_tracked"] = np.array(7)
    return renamed


def test_arrays_by_our_names_in_any_order():
    a, b = small(0), small(1)
    interop.load_arrays(b, dict(sorted(a.state_dict().items())))
    np.testing.assert_array_equal(scores(a), scores(b))


def test_arrays_by_definition_order():
    a, b = small(0), small(1)
    for k, buffer in enumerate(a.buffers()):
        buffer[...] = 1 + 0.1 * k
    interop.load_arrays(b, as_pytorch(a))
    np.testing.assert_array_equal(scores(a), scores(b))


def changed(arrays, **changes):
    return {**arrays, **changes}


@pytest.mark.parametrize(
    "of, change, words",
    [
        (
            "ours",
            lambda a: changed(a, **{"features.1.conv.weight": np.zeros((8, 8, 5, 5))}),
            "features.1.conv.weight has shape",
        ),
        ("ours", lambda a: {k: v for k, v in a.items() if k != "head.bias"}, "head.bias"),
        ("ours", lambda a: changed(a, **{"head.bias": np.full(10, np.nan)}), "head.bias holds NaN or infinity"),
        ("ours", lambda a: changed(a, **{"head.bias": np.array(["x"] * 10)}), "head.bias holds <U1"),
        ("theirs", lambda a: {k: v for k, v in a.items() if k != max(a)}, "head.bias has none"),
        ("theirs", lambda a: changed(a, **{"x.weight": np.zeros(3)}), "x.weight is one too many"),
        ("theirs", lambda a: changed(a, **{"000.weight": np.zeros((8, 1, 5, 5))}), "number 1 of the parameters, 000.weight"),
        ("theirs", lambda a: {}, "stem.conv.weight has none"),
    ],
)
def test_arrays_that_do_not_fit_are_named_and_nothing_changes(of, change, words):
    net, other = small(0), small(1)
    before = net.state_dict()
    with pytest.raises(ValueError, match=words):
        interop.load_arrays(net, change(other.state_dict() if of == "ours" else as_pytorch(other)))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_network_of_the_peers_names_gives_its_scores():
    """Weights as the reference made them, under SpikingJelly's names, give the scores that PyTorch and SpikingJelly reached."""
    stored, facts = recipe.load(pathlib.Path(recipe.__file__).parent / f"{CASE}.npz")
    shapes = [tuple(s[s > 0]) for s in facts["shapes"]]
    stream = np.random.RandomState(int(facts["seed"]))
    arrays = {f"layer{k}.weight": p for k, p in enumerate(recipe.parameters(shapes, stream))}
    x, _ = recipe.inputs("mnist", stream)
    net = models.build(**recipe.options(CASE), width=recipe.WIDTH, timesteps=recipe.TIMESTEPS, dtype="float64", seed=1)
    buffers = {f"norm{k}.{name.rpartition('.')[2]}": b for k, (name, b) in enumerate(net.named_buffers())}
    interop.load_arrays(net, arrays | buffers)
    with no_grad():
        np.testing.assert_allclose(np.ravel(net(x).data), np.ravel(stored["out"]), rtol=1e-9, atol=1e-12)


def test_safetensors_round_trip(tmp_path):
    pytest.importorskip("safetensors")
    a, b, path = small(0), small(1), tmp_path / "net.safetensors"
    interop.save_safetensors(a, path, {"note": "hello"})
    metadata = interop.load_safetensors(b, path)
    np.testing.assert_array_equal(scores(a), scores(b))
    assert metadata["note"] == "hello"
    assert json.loads(metadata["network"])["attention"] == "t"
    assert metadata["order"].split("\n")[:5] == ["stem.conv.weight", *(f"stem.norm.{n}" for n in BN)]
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


BN = ("weight", "bias", "running_mean", "running_var")


def test_any_module_is_saved(tmp_path):
    pytest.importorskip("safetensors")
    a, b = (nn.Sequential(nn.Linear(3, 2, np.random.default_rng(k))) for k in (0, 1))
    interop.save_safetensors(a, tmp_path / "x.safetensors")
    assert "network" not in interop.load_safetensors(b, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(a[0].weight.data, b[0].weight.data)


def test_foreign_safetensors_need_their_order(tmp_path):
    api = pytest.importorskip("safetensors.numpy")
    a, b, path = small(0), small(1), tmp_path / "net.safetensors"
    arrays = {f"{'zyxwv'[k % 5]}{name}": array for k, (name, array) in enumerate(as_pytorch(a).items())}
    api.save_file(arrays, path)
    with pytest.raises(UsageError, match="does not tell their order"):
        interop.load_safetensors(b, path)
    api.save_file(arrays, path, {"order": "\n".join(arrays)})
    interop.load_safetensors(b, path)
    np.testing.assert_array_equal(scores(a), scores(b))
    api.save_file(arrays, path, {"order": "a\nb"})
    with pytest.raises(UsageError, match="lists names under 'order'"):
        interop.load_safetensors(b, path)


@pytest.mark.parametrize("name, content", [("net.pt", b"x"), ("net.safetensors", b"PK\3\4x"), ("net", b"\x80\x02x")])
def test_files_of_pytorch_are_refused_with_the_line_that_converts_them(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match="convert it with: python -c") as error:
        interop.load_safetensors(small(), tmp_path / name)
    assert "\n" not in str(error.value) and "weights_only=True" in str(error.value)
    line = str(error.value).partition('python -c "')[2].removesuffix('"')
    compile(line.replace("\\\\", "\\"), "line", "exec")


def damaged_files():
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    good = struct.pack("<Q", len(header)) + header + bytes(16)
    return [b"", b"\0", good[:-1], good + b"\0", struct.pack("<Q", 1 << 60) + header, good.replace(b"F32", b"F99"), b"{}" * 50]


@pytest.mark.parametrize("content", damaged_files())
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    pytest.importorskip("safetensors")
    net, path = small(), tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"net\.safetensors is not a safetensors file, is damaged") as error:
        interop.load_safetensors(net, path)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_missing_package_are_said(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be read"):
        interop.load_safetensors(small(), tmp_path / "no.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(UsageError, match=r"pip install 'minisnn\[exchange\]'"):
        interop.save_safetensors(small(), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    interop.save_safetensors(small(), path)
    before = path.read_bytes()
    monkeypatch.setattr(files, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        interop.save_safetensors(small(1), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
