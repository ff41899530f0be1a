"""Small runs for tests: the options of one that trains in a second, what a command says of it, and run folders made without
training, whose layers all fire, but for the shortcuts that shall be silent.
"""

import dataclasses

from minisnn import nn, no_grad, train
from minisnn.catalogue import CATALOGUE
from minisnn.options import command
from minisnn.runs import Run

TINY = ["--model", "or", "--limit", "16", "--epochs", "2", "--width", "8", "-T", "1", "-b", "16"]


def other_files(monkeypatch, name, **changes):
    """Give a data set's files another address, say."""
    row = CATALOGUE[name]
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(row, source=dataclasses.replace(row.source, **changes)))


def complaints(said):
    """The lines on standard error, without the one of a first start."""
    return [line for line in said.splitlines() if "compiling" not in line]


def fire(net, x):
    """Set batch norms to the statistics of x [T, N, C, H, W], a little above, so that each layer fires untrained."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # one pass sets the running statistics to those of x
        norm.bias.data += 0.5
    with no_grad():
        net.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def silence(net, shortcuts):
    """Keep the neurons of these shortcuts (from 1) from ever firing."""
    for k in shortcuts:
        norm = net.stages[k - 1].shortcut.norm
        norm.weight.data[...], norm.bias.data[...] = 0.0, -1.0
    return net


def small_run(path, model="or", silent=(), epochs=3, **options):
    """The folder of a run on the digits as if trained for some epochs, width 8, T 2, 64 training samples."""
    options = train.Options(model=model, epochs=epochs, limit=64, **{"width": 8, "timesteps": 2} | options)
    dataset = options.load()
    net, config = train.new_network(options, dataset)
    x = dataset.train.batch(range(16))
    silence(fire(net, x), silent)
    run = Run.create(
        path,
        {
            "command": command(options),
            "options": dataclasses.asdict(options),
            "network": config,
            "dataset": dataset.facts,
            "parameters": 0,
            "versions": {},
        },
    )
    found = train.evaluate(net, dataset.test, limit=8)
    rates, each = found["report"].rates, range(1, epochs + 1)
    facts = {
        "epoch": epochs,
        "last": train.reached(epochs, found),
        "best": None,
        "metrics": [[k, 0.09 / k, 1 - 0.8 / k, 0.1 / k, 1 - 0.9 / k, 1.0, 64.0, 0.1, 1e-3, 0.0] for k in each],
        "layers": list(rates),
        "firing_rates": [[k, *(rate * k / epochs for rate in rates.values())] for k in each],
    }
    run.save_network("last", net, facts)
    run.write_tables(facts)
    return run
