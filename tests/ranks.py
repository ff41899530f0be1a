"""What tests/test_parallel.py runs under mpiexec, and without: two epochs in float64, of which everything is written down.

python ranks.py OUT.npz [OPTION=VALUE ...]
"""

import ast
import sys

import numpy as np

from minisnn import engine, models, parallel, train


def main(out, *changes):
    parallel.begin() if parallel.launched()[0] > 1 else None
    changed = {name: ast.literal_eval(value) for name, _, value in (word.partition("=") for word in changes)}
    options = train.Options(
        **dict(model="syna-t", limit=33, epochs=2, width=8, timesteps=2, batch_size=16, threads=1) | changed
    )
    dataset = options.load()
    engine.manual_seed(0)
    net = models.build(dataset.preset, **options.network(), dtype="float64")
    training = train.Training(options, net, dataset)
    training.test = train.data.limited(dataset.test, 21)
    while training.epoch < options.epochs:
        training.step(train.NoBar())
    rows = np.array(training.rows)
    found = {f"p/{name}": array for name, array in training.arrays().items()}
    found |= {"rows": np.delete(rows, [5, 6, 9], 1), "rates": training.rates, "training_rates": training.training_rates}
    found["last"] = np.array([value for value in training.last.values() if not isinstance(value, list)])
    everyone = parallel.gathered(b"".join(np.asarray(array).tobytes() for array in found.values()))
    assert all(other == everyone[0] for other in everyone), "the ranks differ"
    if parallel.rank() == 0:
        np.savez(out, ranks=parallel.size(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
