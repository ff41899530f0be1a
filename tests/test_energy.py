"""Energy: measured counts against counting one by one, and the published counting against the paper's tables."""

import concurrent.futures
import contextlib
import functools
import json

import numpy as np
import pytest
from small_runs import small_run

from minisnn import Tensor, cli, energy, models, nn, no_grad, ops
from minisnn.data import limited

RATES = [
    0.0213,
    0.0445,
    0.0314,
    0.0164,
    0.0344,
    0.0453,
    0.0392,
    0.0001,
    0.0434,
    0.0530,
    0.0060,
    0.0314,
    0.0356,
    0.0393,
    0.0404,
    0.0456,
    0.0497,
    0.0,
    0.0513,
    0.0544,
]
JOINED = [0.0392, 0.0398, 0.0497]
T = 32


def row(**options):
    """The paper's DVS Gesture row of SynA-S, shortcut 3 pruned."""
    return energy.published(
        "dvsgesture", timesteps=T, firing_rates=RATES, joined_rates=JOINED, pruned=(3,), width=64, **options
    )


def lively(timesteps=2, samples=2, size=8, seed=0, **options):
    """A small untrained network whose layers all fire, and an input for it."""
    rng = np.random.default_rng(seed)
    net = models.build("digits", width=8, timesteps=timesteps, seed=seed, **options)
    x = rng.random((timesteps, samples, 1, size, size), dtype=np.float32) * 4
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # one pass sets the running statistics to those of x
        norm.bias.data += 0.5
    with no_grad():
        net(x)
    for norm in norms:
        norm.momentum = 0.1
    return net, x


@contextlib.contextmanager
def overheard(net):
    """[(convolution, input)] of every convolution called within."""
    calls = []
    with contextlib.ExitStack() as stack:
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                heard = functools.partial(
                    lambda name, module, inputs, _: calls.append((name, module, inputs[0].data)), name, module
                )
                stack.enter_context(nn.listen(module, heard))
        yield calls


def brute_force(conv, x):
    """(AC, MAC) of one convolution of one sample, one input after another and one kernel tap after another; x: [T, 1, C, H,
    W].
    """
    cout, _, kh, kw = conv.weight.shape
    H, W = x.shape[-2:]
    Ho, Wo = ((n + 2 * conv.padding - k) // conv.stride + 1 for n, k in ((H, kh), (W, kw)))
    binary = not (set(np.unique(x)) - {0.0, 1.0})
    additions = 0
    for *_, h, w in np.argwhere(x) if binary else np.ndindex(x.shape):
        for i in range(kh):
            for j in range(kw):
                oh, left_h = divmod(h + conv.padding - i, conv.stride)
                ow, left_w = divmod(w + conv.padding - j, conv.stride)
                additions += left_h == 0 and left_w == 0 and 0 <= oh < Ho and 0 <= ow < Wo
    return (additions * cout, 0) if binary else (0, additions * cout)


@pytest.mark.parametrize("residual", models.RESIDUALS)
def test_measured_counts_are_those_of_counting_one_by_one(residual):
    net, x = lively(residual=residual)
    with overheard(net) as calls:
        report = energy.measure(net, x, fold_norm=True)
    counted = {
        name: tuple(np.sum([brute_force(conv, x[:, n : n + 1]) for n in range(x.shape[1])], 0)) for name, conv, x in calls
    }
    ac, mac = (sum(pair[k] for pair in counted.values()) for k in (0, 1))
    assert ac > 0 and report.ac * report.samples == ac
    assert report.mac * report.samples == mac + x.shape[0] * x.shape[1] * 64 * 10  # and the linear layer
    for layer in report.layers:
        if layer.kind == "conv":
            assert (layer.ac * 2, layer.mac * 2) == counted[layer.name + ".conv"], layer.name


@pytest.mark.parametrize("method", ["event", "dense"])
def test_counts_do_not_depend_on_how_the_convolution_is_computed(method):
    net, x = lively()
    before = energy.measure(net, x)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module is not net.stem.conv:
            module.method = method
    assert energy.measure(net, x) == before


@pytest.mark.parametrize("residual", ["or", "and", "iand", "none", "ms"])
def test_no_products_behind_the_first_layer_without_an_adding_join(residual):
    net, x = lively(residual=residual)
    assert [r.name for r in energy.measure(net, x).layers if r.kind == "conv" and r.mac] == ["stem"]


def test_products_behind_an_adding_join():
    net, x = lively(residual="add")
    with_products = [r.name for r in energy.measure(net, x).layers if r.kind == "conv" and r.mac]
    assert with_products == ["stem", "stages.0.after.0", "stages.1.after.0", "stages.2.after.0"]


@pytest.mark.parametrize("dim", "tcs")
def test_attention_and_batch_norm_are_counted(dim):
    net, x = lively(attention=dim, timesteps=4)
    samples, steps = x.shape[1], x.shape[0]
    report = energy.measure(net, x)
    rows = {r.name: r for r in report.layers}
    entries = steps * 8 * 8 * 8
    ma, ia = rows["features.0.attention"], rows["stages.0.shortcut.attention"]
    own = {"t": 2 * 2 * 1 * 4, "c": 2 * 2 * 8 * 8}.get(dim)  # two layers on two pooled features
    if own is not None:
        assert (ma.ac, ma.mac) == (entries, entries + own)
    else:  # 8 x 8 map, 3 x 3 kernel with padding: (3 * 8 - 2) ** 2 (output, tap) pairs inside, 2 maps
        assert (ma.ac, ma.mac) == (entries, entries + 2 * 22 * 22)
    assert ia.ac == entries // 2 and ia.mac < ia.ac + 2 * 2 * 8 * 16 and ia.firing_rate is not None
    norm_entries = sum(r.neurons for r in report.layers if r.kind == "conv") * steps
    assert rows["batch norm"].mac == norm_entries
    folded = energy.measure(net, x, fold_norm=True)
    assert folded.mac == report.mac - norm_entries and folded.ac == report.ac
    assert samples == report.samples


def test_totals_rates_and_energy_belong_together():
    net, x = lively()
    report = energy.measure(net, x, e_mac=2.0, e_ac=0.5)
    assert report.energy_mj == pytest.approx((2.0 * report.mac + 0.5 * report.ac) * 1e-9)
    assert sum(layer.share for layer in report.layers) == pytest.approx(1)
    fired = 0
    with contextlib.ExitStack() as stack:
        outputs = {}
        for name, unit in net.named_modules():
            if isinstance(unit, models.Unit):
                stack.enter_context(nn.listen(unit, lambda _, out, name=name: outputs.update({name: out.data})))
        energy.measure(net, x)
    for name, s in outputs.items():
        assert report.rates[name] == pytest.approx(s.mean())
        fired += s.sum()
    assert report.spikes * 2 == fired
    assert report.neurons == sum(s[0, 0].size for s in outputs.values())
    assert report.spikes_per_neuron == pytest.approx(fired / 2 / report.neurons)
    for k in range(3):
        main, short = outputs[f"stages.{k}.main.1"], outputs[f"stages.{k}.shortcut"]
        assert report.joined_rates[k] == np.mean((main + short) > 0)


def test_batches_count_as_one_array():
    net, x = lively(samples=3)
    whole = energy.measure(net, x)
    parts = energy.measure(net, ((Tensor(x[:, k : k + 1]), None) for k in range(3)))
    assert parts.samples == 3 and parts.ac == whole.ac and parts.spikes == whole.spikes and parts.rates == whole.rates
    assert parts.energy_mj == pytest.approx(whole.energy_mj)


@pytest.mark.parametrize("options", [dict(residual=r) for r in models.RESIDUALS] + [dict(attention=a) for a in "tcs"], ids=str)
def test_what_is_counted_for_a_sample_does_not_depend_on_its_batch(options):
    net, x = lively(samples=6, **options)
    x[:, 1] = x[:, 1] > 2  # a sample of black and white
    x[1, 3] = x[1, 3] > 2  # one that is so at one step only
    x[:, 4] = 0

    def counts(report):
        return [(row.name, row.kind, row.spikes, row.ac, row.mac) for row in report.layers]

    alone = [counts(energy.measure(net, x[:, k : k + 1])) for k in range(6)]
    assert len({mac for rows in alone for name, _, _, _, mac in rows if name == "stem"}) == 2
    for size in (2, 3, 6):
        together = counts(energy.measure(net, [x[:, k : k + size] for k in range(0, 6, size)]))
        for row, *parts in zip(together, *alone, strict=True):
            assert row[:2] == parts[0][:2] and row[2:] == pytest.approx(np.mean([part[2:] for part in parts], 0), rel=1e-12)


def test_measuring_leaves_the_network_as_it_was():
    net, x = lively()
    net.train()
    net.features.eval()
    modes, before = [m.training for m in net.modules()], net.state_dict()
    energy.measure(net, x)
    assert [m.training for m in net.modules()] == modes
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())


def test_any_module_can_be_measured():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.LIF(), nn.Conv2d(2, 1, 1), nn.LIF())
    report = energy.measure(net, np.ones((3, 2, 1, 4, 4), np.float32) * 9)
    assert [(r.name, r.kind) for r in report.layers] == [("0", "conv"), ("1", "lif"), ("2", "conv"), ("3", "lif")]
    assert report.layers[0].ac + report.layers[0].mac == 3 * 2 * (3 * 4 - 2) ** 2 and report.samples == 2


class Halves(nn.Module):
    """No parameters, no name for its parts, and an operation of its own."""

    def __init__(self):
        self.stages = "not those of a network of models.build"

    def forward(self, x):
        return ops.lif(ops.conv2d(x / 2, Tensor(np.ones((1, 1, 1, 1)), dtype=x.dtype)))


@pytest.mark.parametrize(
    "net, kinds",
    [
        (nn.LIF(), ["lif"]),
        (nn.Linear(4, 2, rng=np.random.default_rng(0)), ["linear"]),
        (Halves(), ["conv", "lif"]),
        (nn.Sequential(Halves(), nn.AvgPool2d(2)), ["conv"]),
        (nn.MaxPool2d(2), []),
        (models.build("digits", width=8, timesteps=2, seed=0).stages[0].main, ["conv", "conv", "norm"]),
    ],
)
def test_any_other_module_can_be_measured_too(net, kinds):
    x = np.ones((2, 3, 8 if kinds[1:] == ["conv", "norm"] else 1, 4, 4), np.float32)
    report = energy.measure(net, x)
    assert [row.kind for row in report.layers] == kinds and all(row.name for row in report.layers)
    assert report.samples == 3 and report.joined_rates == [] and "total" in str(report)


def test_listeners_hear_the_calls_of_their_own_thread():
    layer, heard, other = nn.LIF(), [], []
    x = Tensor(np.ones((1, 2, 3)))
    with nn.listen(layer, lambda inputs, out: heard.append(out.shape)), nn.listen(layer, lambda *_: heard.append("2nd")):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(layer, x).result()
        assert heard == []

        def listen_and_call():
            with nn.listen(layer, lambda *_: other.append(1)):
                layer(x)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(listen_and_call).result()
        layer(x)
    layer(x)
    assert heard == [(1, 2, 3), "2nd"] and other == [1]


def test_nothing_to_measure_is_an_error():
    net, x = lively()
    with pytest.raises(ValueError, match="no samples"):
        energy.measure(net, [])
    with pytest.raises(ValueError, match="time steps"):
        energy.measure(net, [x, x[:1]])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        energy.measure(nn.LIF(), np.ones(3))


def test_report_reads_well():
    net, x = lively(attention="c")
    report = energy.measure(net, x)
    text = str(report)
    assert "stage 3 shortcut attention" in text and text.splitlines()[-1].startswith("total")
    assert len({len(line) for line in text.splitlines()}) == 1
    as_dict = report.as_dict()
    assert as_dict["spikes"] == report.spikes and len(as_dict["layers"]) == len(report.layers)


# ---- the published scripts -------------------------------------------------------------------------------------------


def test_published_row_without_the_slip():
    report = row()
    assert report.ac / 1e6 == pytest.approx(671.82, abs=0.005)
    assert report.energy_mj == pytest.approx(4.474, abs=0.0005)
    assert report.mac / 1e6 == pytest.approx(839.39, abs=0.006)
    assert report.attention_mac == 0
    with_ia = row(attention="s", position="d", ia_rates=(0.0043, 0.3691, 0.0))
    assert with_ia.spikes / 1e3 == pytest.approx(766.95, abs=0.005)
    assert with_ia.energy_mj == report.energy_mj and with_ia.ac == report.ac  # attention costs no energy there


def test_the_slip_explains_the_printed_row():
    report = row(attention="s", position="d")
    outputs = 512 * (8 * 8 - 4 * 4) * T  # that the convolution does not have
    ac, mac = report.ac + (512 * 9 - 1) * outputs * RATES[15], report.mac - report.attention_mac + outputs
    assert ac / 1e6 == pytest.approx(837.03, abs=0.005)
    assert (mac + report.attention_mac) / 1e6 == pytest.approx(840.38, abs=0.005)
    mult, add = mac + 512 * 11 * T, mac + ac + 512 * 512 * T
    assert (3.7 * mult + 0.9 * add) * 1e-9 == pytest.approx(4.626, abs=0.0005)


@pytest.mark.parametrize(
    "preset, T, residual, attention, position, pruned, printed",
    [
        ("dvsgesture", 32, "or", None, "a", (), 840.43),
        ("dvsgesture", 32, "add", None, "a", (), 4462.48),
        ("dvsgesture", 32, "or", "t", "b", (2,), 839.91),
        ("dvsgesture", 32, "or", "c", "b", (1, 2, 3), 838.77),
        ("mnist", 16, "and", None, "a", (), 14.10),
        ("mnist", 16, "add", None, "a", (), 1542.19),
        ("cifar10dvs", 16, "iand", None, "a", (), 11.92),
        ("cifar10dvs", 16, "add", None, "a", (), 332.64),
    ],
)
def test_printed_mac(preset, T, residual, attention, position, pruned, printed):
    report = energy.published(
        preset, T, [0.1] * 20, [0.1] * 3, pruned, residual=residual, attention=attention, position=position
    )
    slip = 512 * (8 * 8 - 4 * 4) * T if preset == "dvsgesture" else 0
    assert (report.mac + slip) / 1e6 == pytest.approx(printed, abs=0.006)


def test_published_from_a_measured_run():
    net, x = lively(attention="t", timesteps=4)
    measured = energy.measure(net, x)
    report = energy.published_of(net, measured, size=8)
    assert [r.name for r in report.layers if r.kind == "conv"] == [r.name for r in measured.layers if r.kind == "conv"]
    assert report.rates == measured.rates
    assert report.spikes == pytest.approx(measured.spikes) and report.neurons == measured.neurons
    norms = [next(r for r in both.layers if r.kind == "norm").mac for both in (report, measured)]
    assert norms[0] == norms[1]
    inside = energy.measure(net, x)
    assert report.ac != inside.ac  # borders, "- 1", the shortcut's rate, the pools of attention


def test_published_of_a_pruned_network():
    net, x = lively()
    net.stages[1].shortcut = None
    measured = energy.measure(net, x)
    assert measured.joined_rates[1] == measured.rates["stages.1.main.1"]
    report = energy.published_of(net, measured, size=8)
    assert "stages.1.shortcut" not in report.rates and report.spikes == pytest.approx(measured.spikes)


def test_published_refuses_what_the_scripts_do_not_know():
    for options, word in (
        (dict(residual="ms"), "measured"),
        (dict(pruned=(4,)), "pruned"),
        (dict(firing_rates=[0.1]), "firing_rates"),
        (dict(preset="imagenet"), "preset"),
        (dict(attention="x"), "attention"),
        (dict(ia_rates=[1]), "ia_rates"),
        (dict(width=7), "width"),
        (dict(timesteps=0), "timesteps"),
        (dict(timesteps=True), "timesteps"),
        (dict(firing_rates=[0.1] * 19 + [1.1]), "firing_rates"),
        (dict(joined_rates=[0.1, float("nan"), 0.1]), "joined_rates"),
    ):
        arguments = dict(preset="mnist", timesteps=4, firing_rates=[0.1] * 20, joined_rates=[0.1] * 3) | options
        with pytest.raises(ValueError, match=word):
            energy.published(**arguments)


def test_counting_keeps_results():
    net, x = lively()
    net.eval()
    plain = net(x).data
    heard = []
    with nn.listen(net, lambda _, out: heard.append(out.data)):
        energy.measure(net, x)
        with nn.listen(net, lambda _, out: heard.append(out.data)):
            energy.measure(net, x)
    assert len(heard) == 3 and all(np.array_equal(scores, plain) for scores in heard)
    assert "forward" not in vars(net)


# ---- the command -------------------------------------------------------------------------------------------------------


def command(capsys, *arguments):
    status = cli.main(["energy", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out.splitlines()[-1]) if status == 0 else None, out, err


def test_the_command_measures_the_test_set(tmp_path, capsys):
    run = small_run(tmp_path / "run", model="syna-c")
    test = run.dataset().test
    status, found, out, _ = command(capsys, run.path, "-b", 64)
    report = energy.measure(run.network(), test.batch(range(len(test))))
    assert status == 0 and found["samples"] == len(test) == found["measured_on"]
    for key in ("spikes", "ac", "mac", "energy_mj", "spikes_per_neuron"):
        assert found[key] == pytest.approx(getattr(report, key)), key
    assert [layer["name"] for layer in found["layers"]] == [row.name for row in report.layers]
    assert "stage 2 shortcut attention" in out and f"{report.spikes_per_neuron:.3f} per neuron" in out
    _, dear, _, _ = command(capsys, run.path, "--limit", 32, "--e-mac", 9.2, "--e-ac", 1.8)
    _, plain, _, _ = command(capsys, run.path, "--limit", 32)
    _, folded, _, _ = command(capsys, run.path, "--limit", 32, "--fold-norm")
    assert dear["energy_mj"] == pytest.approx(2 * plain["energy_mj"]) and plain["samples"] == 32
    assert folded["mac"] < plain["mac"] and folded["ac"] == plain["ac"]


def test_the_command_counts_as_published(tmp_path, capsys):
    run = small_run(tmp_path / "run", model="sew-add")
    status, found, out, _ = command(capsys, run.path, "--accounting", "published", "--limit", 32)
    assert status == 0 and found["accounting"] == "published" and "8x8" in out
    net, test = run.network(), run.dataset().test
    x = limited(test, 32).batch(range(32))
    assert found["energy_mj"] == pytest.approx(energy.published_of(net, energy.measure(net, x), size=16).energy_mj)


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    run = small_run(tmp_path / "run", model="ms")
    for arguments, word in (
        ([run.path, "--accounting", "published"], "measured"),
        ([tmp_path], "config.json"),
        ([run.path, "--e-mac", "-1"], "--e-mac"),
        ([run.path, "--accounting", "guessed"], "guessed"),
        ([run.path, "--accounting", "published", "--fold-norm"], "--fold-norm"),
    ):
        status, _, _, err = command(capsys, *arguments)
        assert status == 2 and word in err and err.count("\n") == 1
