"""Training and evaluation: epochs, progress, metrics, checkpoints.

Axes: T time steps, N batch, C channels, H height, W width; K classes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import data, energy, engine, files, journal, ledger, locks, models, nn, ops, optim, parallel, stopping, terminal, threads
from .data import Loader
from .data.base import Samples
from .engine import Tensor
from .errors import UsageError
from .models import PRUNABLE
from .options import EARLIER, Options, command
from .runs import COLUMNS, NETWORK, VALIDATED, Run, check_facts, merit, network_arrays, new_folder, next_folder, versions
from .types import Path

__all__ = ["Options", "train", "resume", "evaluate", "recalibrate"]

RAW = "raw/"  # prefix within a checkpoint of the weights that are trained, if "network/" is their running mean
OPTIMIZER, SCHEDULE = "optimiser/", "schedule/"  # prefixes within a checkpoint; the spelling is that of existing files
LISTEN_EVERY = 16  # batches between two measurements of the firing rate for the progress bar


# ---- evaluation ------------------------------------------------------------------------------------------------------


def loss_of(scores, labels, how):
    """The loss of class scores [N, K]: "mse" against the one-hot label, the paper's, or "ce", cross-entropy. "tet" takes the
    scores of each time step, [T, N, K], and is the mean of their cross-entropies (Deng et al. 2022, Eq. 9, without the
    regularizing term): each step is to be right, not only their mean. Of [N, K], as in an evaluation, it is "ce".
    """
    if scores.ndim == 3:
        T, N, K = scores.shape
        return ops.cross_entropy(scores.reshape(T * N, K), np.tile(labels, T))
    if how == "mse":
        return ops.mse_loss(scores, ops.one_hot(labels, scores.shape[1], scores.dtype))
    return ops.cross_entropy(scores, labels)


def evaluate(
    net: nn.Module, samples: Samples, batch_size: int = 64, loss: str = "mse", seed: int = 0, limit: int | None = None
) -> dict[str, Any]:
    """Accuracy, loss, spikes and energy of a network on samples, in one pass.

    Args:
        net: a network of ``models.build``, or any Module that returns scores [N, K].
        samples: data.Samples, such as ``data.Arrays``.
        batch_size: samples at once; it changes memory, not results.
        loss: "mse", "ce" or "tet"; see ``loss_of``.
        seed, limit: take only that many samples, drawn by the seed.

    Returns:
        dict: accuracy (0 to 1), loss, confusion (int64 [K, K], rows the true class, columns the predicted one), class_accuracy
        ([K], NaN for a class without samples), report (``energy.Report``: spikes, operations, energy per sample, firing rates).
    """
    samples = data.limited(samples, limit, seed)
    whole = parallel.size() == 1
    own = samples if whole else data.Subset(samples, np.arange(len(samples))[parallel.share(len(samples))])
    loader = Loader(own, batch_size, seed=seed)
    heard: list[np.ndarray] = []  # scores, batch by batch
    seen: list[np.ndarray] = []  # labels

    def batches():
        for x, y in loader:
            seen.append(y)
            yield x

    with nn.listen(net, lambda _, out: heard.append(out.data)):
        report = energy.measure(net, batches(), shared=not whole)
    if any(out.ndim != 2 for out in heard):
        raise ValueError(f"evaluate: the network returned scores {heard[0].shape}; let it return their mean over T, [N, K]")
    if not whole:  # a rank without samples has neither
        heard, seen = ([part for parts in parallel.gathered(own_parts) for part in parts] for own_parts in (heard, seen))
    scores, labels = np.concatenate(heard), np.concatenate(seen)
    classes = scores.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, scores.argmax(1)), 1)
    counts = confusion.sum(1)
    each = np.divide(np.diag(confusion), counts, out=np.full(classes, np.nan), where=counts > 0)
    with engine.no_grad():
        mean_loss = loss_of(Tensor(scores), labels, loss).item()
    return {
        "accuracy": float(np.trace(confusion) / len(labels)),
        "loss": mean_loss,
        "confusion": confusion,
        "class_accuracy": each,
        "report": report,
    }


def recalibrate(net: nn.Module, batches: Iterable[np.ndarray]) -> None:
    """Estimate the running statistics of a network's batch norms anew, as means over batches, with the weights as they are.

    In training the running mean takes a tenth of each batch's statistics, so that it describes the weights of some ten batches
    ago. Where they move fast, through twenty layers of thresholds, an evaluation then sees another network than the one in
    training: its accuracy may fall by 40 points for an epoch. What is learned does not depend on these statistics, so neither
    does the rest of the run (Wu and Johnson 2021, "Rethinking Batch in BatchNorm", call it precise statistics).

    Args:
        net: a network; it ends in the mode in which it was.
        batches: inputs [T, N, C, H, W], at least one; each counts the same.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.running_mean[...] = norm.running_var[...] = 0  # so that no bit of the result depends on what they were
    with nn.evaluating(net):  # all but the norms: dropout, for one, would change what they see
        try:
            for k, x in enumerate(batches):
                for norm in norms:
                    norm.training, norm.momentum = True, 1 / (k + 1)  # the mean so far
                net(x)
        finally:
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum


def check_finite(arrays, what):
    """Raise FloatingPointError if one of some arrays holds NaN or infinity."""
    for name, array in arrays:
        seen = array[:1] if array.ndim and array.strides[0] == 0 else array  # an image that is repeated T times
        if array.dtype.kind == "f" and not np.isfinite(seen).all():
            raise FloatingPointError(f"the {what} {name}holds NaN or infinity".replace("  ", " "))


def check_fits(net, dataset, what):
    """Raise UsageError if a network cannot read a data set."""
    samples, out = dataset.test or dataset.train, net.head.weight.shape[0]
    misfit = net.misfit(samples.size)
    if misfit or len(dataset.classes) != out:
        raise UsageError(
            f"{what} {misfit or 'sorts'} into {out} classes, but {dataset.name} has {' x '.join(map(str, samples.size))} "
            f"(channels, height, width) and {len(dataset.classes)} classes; give a --dataset that fits"
        )


# ---- training --------------------------------------------------------------------------------------------------------


class Training:
    """A training run in progress: everything needed to resume it bit for bit."""

    def __init__(self, options, net, dataset):
        self.options, self.net = options, net
        self.samples, self.validation = data.training_parts(dataset.train, vars(options))
        self.test = dataset.test
        self.batches = -(-len(self.samples) // options.batch_size)
        make = {"adam": optim.AdamW, "sgd": optim.SGD}[options.optimizer]
        self.optimizer = make(net.parameters(), lr=options.lr, weight_decay=options.weight_decay or 0.0)
        self.schedule = optim.CosineAnnealing(
            self.optimizer, options.epochs * self.batches, warmup=round(options.warmup * self.batches)
        )
        self.epoch, self.rows, self.rates, self.layers, self.firing_rate = 0, [], [], [], math.nan
        self.fired: dict[str, list[int]] = {}  # layer: [spikes, neuron-steps] of the epoch, in the batches listened to
        self.training_rates = []  # as rates, but of training mode, while the epoch was learned
        self.last = self.best = None  # what the last epoch reached, and the one that the validation chose
        self.average = copied(net.state_dict()) if options.ema else None  # the running mean of parameters and buffers
        self.saved = None  # the epoch that last.npz holds

    @property
    def columns(self):
        """The columns of metrics.csv."""
        return COLUMNS if self.validation is None else COLUMNS + VALIDATED

    def arrays(self):
        """What the checkpoint holds as arrays."""
        state = network_arrays(self.net)
        if self.average is not None:  # the network that is evaluated, and the weights with which training continues
            state = {RAW + name: a for name, a in self.net.state_dict().items()}
            state |= {NETWORK + name: a for name, a in self.average.items()}
        state |= {OPTIMIZER + name: a for name, a in self.optimizer.state_dict().items()}
        return state | {SCHEDULE + name: a for name, a in self.schedule.state_dict().items()}

    def facts(self):
        """What the checkpoint holds as JSON. Order and augmentation of an epoch depend on (seed, epoch) and need no state."""
        return {
            "epoch": self.epoch,
            "last": self.last,
            "best": self.best,
            "metrics": self.rows,
            "layers": self.layers,
            "firing_rates": self.rates,
            "training_rates": self.training_rates,
            "random_state": engine.generator().bit_generator.state,
        }

    def restore(self, arrays, facts):
        """Continue from a checkpoint. Raises ValueError, KeyError, TypeError or OverflowError if it is another run's."""
        check_facts(facts)
        if facts["epoch"] > self.options.epochs:
            raise ValueError(f"epoch is {facts['epoch']} of {self.options.epochs}")
        for part, prefix in ((self.optimizer, OPTIMIZER), (self.schedule, SCHEDULE)):
            part.load_state_dict({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})
        if self.average is not None:
            self.average = copied({name.removeprefix(NETWORK): a for name, a in arrays.items() if name.startswith(NETWORK)})
            self.net.load_state_dict({name.removeprefix(RAW): a for name, a in arrays.items() if name.startswith(RAW)})
        engine.generator().bit_generator.state = facts["random_state"]
        if facts["metrics"] and len(facts["metrics"][0]) != len(self.columns):
            raise ValueError("its table has other columns")
        self.epoch, self.last, self.rows = facts["epoch"], facts.get("last"), facts["metrics"]
        self.best = facts["best"] if self.validation is not None else None  # earlier versions chose by the test set
        self.layers, self.rates = facts["layers"], facts["firing_rates"]
        self.training_rates = facts.get("training_rates", [])
        self.saved = self.epoch

    def save(self, run):
        """Write the checkpoints, last.npz first: it tells the reader of best.npz whether that was written
        as well. Raises NotFinite if the weights are NaN or infinite; then nothing is written.
        """
        arrays, facts = self.arrays(), self.facts()
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise NotFinite(f"weights or the optimizer's means are NaN or infinite after epoch {self.epoch}")
        if parallel.rank() == 0:
            run.save("last", arrays, facts)
        self.saved = self.epoch
        if self.best is not None and self.best["epoch"] == self.epoch and parallel.rank() == 0:
            run.save("best", arrays, facts)

    def repair(self, run):
        """After a restore: write what a killed process did not get to, the best checkpoint and the tables."""
        if self.best is not None and self.best["epoch"] == self.epoch and best_epoch(run) != self.epoch:
            run.save("best", self.arrays(), self.facts())
        run.write_tables(self.facts())

    def run_epoch(self, bar):
        """One pass over the training samples; returns (mean loss, accuracy, seconds, share of the time waiting for data)."""
        o, net = self.options, self.net.train()
        loader = Loader(self.samples, o.batch_size, o.seed, self.epoch, shuffle=True, shared=True)
        total, right, seen = 0.0, 0, 0
        self.fired = {}
        started = time.perf_counter()
        for k, (x, labels) in enumerate(loader):
            stopping.check()
            self.optimizer.zero_grad()
            try:
                check_finite([("", x)], "input")  # before spikes swallow it
                with (
                    parallel.part(loader.size(k)) as part,
                    ledger.ledger() if k % LISTEN_EVERY == 0 else contextlib.nullcontext() as entries,
                ):
                    steps = net.steps(x) if o.loss == "tet" else None
                    scores = net(x) if steps is None else steps.mean(0)
                    loss = loss_of(scores if steps is None else steps, labels, o.loss)
                    value = loss.item()
                    if not math.isfinite(value):
                        raise FloatingPointError(f"the loss is {value}")
                    (loss if part.mine == part.total else ops.mul(loss, parallel.weight())).backward()
                    parallel.add_gradients(self.optimizer.parameters)
                if o.clip is not None:
                    optim.clip_gradients(self.optimizer.parameters, o.clip)
                self.optimizer.step()
                check_finite(((name + " ", p.data) for name, p in net.named_parameters()), "parameter")
            except FloatingPointError as error:
                raise NotFinite(f"{error}: in epoch {self.epoch + 1}, batch {k + 1}") from error
            self.schedule.step()
            if self.average is not None:
                share = min(o.ema, (1 + self.optimizer.steps) / (10 + self.optimizer.steps))  # at first, forget the start
                for name, array in net.state_dict().items():
                    self.average[name] += (1 - share) * (array - self.average[name])
            if part.mine:
                total, seen = total + value * len(labels), seen + len(labels)
                right += int((scores.data.argmax(1) == labels).sum())
            if entries and part.mine:
                self.firing_rate = ledger.firing_rate(entries)
                for entry in entries:
                    if entry.kind == "neurons":
                        count = self.fired.setdefault(entry.layer, [0, 0])
                        count[0], count[1] = count[0] + entry.spikes, count[1] + entry.neurons
            bar.set_postfix_str(
                f"loss {total / max(seen, 1):.4f}, accuracy {right / max(seen, 1):.1%}, firing rate {self.firing_rate:.3f}",
                refresh=False,
            )
            bar.update(part.total)
        if parallel.size() > 1:
            total, right, seen = map(sum, zip(*parallel.gathered((total, right, seen))))
            self.fired = added(parallel.gathered(self.fired))
        return total / seen, right / seen, time.perf_counter() - started, loader.waiting

    def step(self, bar):
        """One epoch with its evaluation."""
        lr = self.optimizer.lr
        loss, accuracy, seconds, waiting = self.run_epoch(bar)
        with self.averaged():
            self.recalibrate()
            found = self.evaluate(self.test, "test")
            held_out = None if self.validation is None else self.evaluate(self.validation, "validation")
        self.epoch += 1
        report = found["report"]
        self.layers = list(report.rates)
        self.rates.append([self.epoch, *report.rates.values()])
        fired = [self.fired.get(layer, (0, 1)) for layer in self.layers]
        self.training_rates.append([self.epoch, *(spikes / max(1, neurons) for spikes, neurons in fired)])
        self.rows.append(
            [
                self.epoch,
                loss,
                accuracy,
                found["loss"],
                found["accuracy"],
                seconds,
                len(self.samples) / seconds,
                report.firing_rate,
                lr,
                waiting,
                *(() if held_out is None else (held_out["loss"], held_out["accuracy"])),
            ]
        )
        self.last = reached(self.epoch, found)
        if held_out is not None and self.merit_of(self.epoch) > max(map(self.merit_of, range(1, self.epoch)), default=(-1,)):
            self.best = self.last

    def tell(self, log):
        """Log the last epoch."""
        rates, training_rates = (dict(zip(self.layers, rows[-1][1:])) for rows in (self.rates, self.training_rates))
        arrays = self.net.state_dict() if self.average is None else self.average
        log.epoch(self.epoch, dict(zip(self.columns, self.rows[-1])), rates, training_rates, arrays)

    @contextlib.contextmanager
    def averaged(self):
        """Within the ``with`` statement the network is the running mean of the one that is trained, if there is one."""
        if self.average is None:
            yield
            return
        raw = copied(self.net.state_dict())
        self.net.load_state_dict(self.average)
        try:
            yield
            self.average = copied(self.net.state_dict())  # with the statistics that a recalibration gave it
        finally:
            self.net.load_state_dict(raw)

    def recalibrate(self):
        """The statistics of batch norm for an evaluation, over the first batches of the epoch, if the options ask for it."""
        o = self.options
        if o.recalibrate:
            loader = Loader(self.samples, o.batch_size, o.seed, self.epoch, shuffle=True, shared=True)

            def shares():
                for k, (x, _) in enumerate(itertools.islice(iter(loader), o.recalibrate)):
                    with parallel.part(loader.size(k)):
                        yield x

            try:
                recalibrate(self.net, shares())
            except FloatingPointError as error:
                raise NotFinite(f"{error}: in the recalibration after epoch {self.epoch + 1}") from error

    def merit_of(self, epoch):
        """Sort key of an epoch: how it did on the validation samples."""
        loss, accuracy = self.rows[epoch - 1][len(COLUMNS) :]
        return merit(accuracy, loss)

    def evaluate(self, samples, what):
        """``evaluate``, of the network as it is now."""
        try:
            found = evaluate(self.net, samples, self.options.batch_size, self.options.loss)
            if not math.isfinite(found["loss"]):
                raise FloatingPointError(f"the {what} loss is {found['loss']}")
        except FloatingPointError as error:
            raise NotFinite(f"{error}: in the evaluation after epoch {self.epoch + 1}") from error
        return found


def added(counts):
    """The sums of several {layer: [spikes, neuron-steps]}."""
    total: dict[str, list[int]] = {}
    for each in counts:
        for layer, (spikes, neurons) in each.items():
            before = total.get(layer, [0, 0])
            total[layer] = [before[0] + spikes, before[1] + neurons]
    return total


def copied(arrays):
    """Named arrays, copied."""
    return {name: array.copy() for name, array in arrays.items()}


def reached(epoch, found):
    """What an epoch reached on the test set, for a checkpoint's facts and for the summary."""
    report = found["report"]
    return {
        "epoch": epoch,
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "spikes": report.spikes,
        "ac": report.ac,
        "mac": report.mac,
        "energy_mj": report.energy_mj,
        "firing_rate": report.firing_rate,
        "silent_shortcuts": report.silent_shortcuts,
    }


class NotFinite(Exception):
    """A loss or a weight that is NaN or infinite."""


def best_epoch(run):
    """The epoch of best.npz; None if it is missing or damaged."""
    try:
        return run.load_facts("best").get("epoch")
    except UsageError:
        return None


def train(
    options: Options,
    out: Path | None = None,
    progress: bool = True,
    say: Callable[[str], None] = terminal.say,
    again: str | None = None,
) -> dict[str, Any]:
    """Train a network and write the folder of the run.

    Args:
        options: Options.
        out: the folder; by default runs/<dataset>-<model>-<n>.
        progress: whether to draw a progress bar on standard error (if that is a terminal).
        say: function that receives the lines for the user.
        again: the command that continues the run, for messages; by default that of `minisnn train --resume`.

    Returns:
        dict, the summary: test_accuracy, spikes, energy_mj and more, of the ``checkpoint`` that was chosen: "last", or with a
        validation "best"; its validation_accuracy, or None; and the highest_test_accuracy of any epoch, which chooses nothing.

    Raises:
        UsageError: options, data or folder that cannot be used, or a loss that is no longer finite.
        KeyboardInterrupt: Ctrl-C; its text says how to continue.
    """
    limit_threads(options.threads)
    journal.check(options.log)
    dataset = parallel.first(options.load)
    check_parts(dataset)
    net, config = new_network(options, dataset)
    config = {
        "command": command(options),
        "options": options.of_the_run(),
        "network": config,
        "dataset": {"name": dataset.name, "classes": list(dataset.classes), "note": dataset.note, **dataset.facts},
        "parameters": sum(p.size for p in net.parameters()),
        "versions": versions(),
    }
    if parallel.size() > 1:
        config["ranks"] = parallel.size()
    folder = parallel.agreed(
        lambda: new_folder(out) if out else next_folder("runs", f"{options.dataset}-{options.model}")  # one folder for all
    )
    with held(folder):
        run = parallel.agreed(lambda: Run.create(folder, config))
        if parallel.rank() == 0:
            files.remove_parts(folder)  # left by a process that was killed before it had written config.json
        progress, say = progress and parallel.rank() == 0, say if parallel.rank() == 0 else silent
        say(dataset.note)
        say(
            f"{options.model}, width {options.width}, T {options.timesteps}: {config['parameters']:,} parameters; run folder "
            f"{run.path}"
        )
        return finish(run, Training(options, net, dataset), progress, say, again)


def resume(
    path: Path,
    progress: bool = True,
    say: Callable[[str], None] = terminal.say,
    data_dir: str | None = None,
    thread_count: int | None = None,
    cache_options: dict[str, Any] | None = None,
    again: str | None = None,
) -> dict[str, Any]:
    """Continue a run after its last finished epoch, or from its beginning, with the same bits as if it had never stopped.

    Args:
        path: the folder of the run.
        progress, say: as for ``train``.
        data_dir: where the data is now.
        thread_count: number of threads; by default that of the run, or all if there are fewer. It changes no bit.
        cache_options: {name: value} of ``data.CACHE_OPTIONS``.
        again: as for ``train``.

    Returns, Raises: as ``train``.
    """
    run = Run.open(path)
    if run.untrained:
        raise UsageError(
            f"{run.path} was written by `{run.untrained}` and is not trained further; continue the run that it came from, "
            "or train a new one"
        )
    with held(run.path):
        if parallel.rank() == 0:
            files.remove_parts(run.path)
        progress, say = progress and parallel.rank() == 0, say if parallel.rank() == 0 else silent
        options = options_of(run, thread_count)
        journal.check(options.log)
        options.data_dir = data_dir or options.data_dir
        options.data_options |= cache_options or {}
        limit_threads(options.threads)
        started = (run.path / "last.npz").exists()
        if started:
            arrays, facts = run.load("last")
            net = run.new_network()
            run.fill(net, arrays, "last")
        dataset = parallel.first(lambda: options.load(run.held_out))
        check_parts(dataset)
        if not started:
            net = begin_again(run, options, dataset)
        training = Training(options, net, dataset)
        if started:
            try:
                training.restore(arrays, facts)
            except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
                raise UsageError(
                    f"{run.path / 'last.npz'} does not belong to this run ({files.first_line(error)}); restore it "
                    "or train again"
                ) from None
            try:
                if parallel.rank() == 0:
                    training.repair(run)
            except OSError as error:
                raise UsageError(not_written(run, training, error, again or parallel.command(run.again))) from None
        say(dataset.note)
        left = "" if training.epoch < options.epochs else "; nothing is left to do"
        say(f"{run.path}: {training.epoch} of {options.epochs} epochs are done{left}")
        return finish(run, training, progress, say, again)


@contextlib.contextmanager
def held(folder):
    """Within the ``with`` statement the folder of a run belongs to this process, or to the ranks of which this is one."""
    with locks.holding(folder) if parallel.rank() == 0 else contextlib.nullcontext():
        parallel.agreed(lambda: None)  # the others wait until rank 0 has it
        yield


def silent(line=""):
    """What a rank other than 0 says."""


def options_of(run, thread_count=None):
    """The Options of a run, with a number of threads that this machine has.

    Raises:
        UsageError: config.json holds options that are unknown or out of range.
    """
    stored = EARLIER | run.config["options"]
    threads_then = stored.pop("threads", None)
    if thread_count is None and isinstance(threads_then, int) and threads_then > 0:
        thread_count = min(threads_then, threads.get_num_threads())
    try:
        options = Options(**stored, threads=thread_count)
    except TypeError as error:
        raise UsageError(
            f"{run.path / 'config.json'} holds options that this version does not know "
            f"({files.first_line(error)}); use the version that wrote it"
        ) from None
    except UsageError as error:
        raise UsageError(f"{run.path / 'config.json'}: {error}") from None
    return options


def begin_again(run, options, dataset):
    """The initial network of a run that has no checkpoint yet. Raises UsageError if config.json describes another
    one.
    """
    net, described = new_network(options, dataset)
    differs = [name for name, value in described.items() if run.config["network"].get(name) != value]
    if differs:
        raise UsageError(
            f"{run.path / 'config.json'} describes two networks: {differs[0]} is "
            f"{str(run.config['network'].get(differs[0]))[:40]!r} for one and {described[differs[0]]!r} by the options; "
            "restore it or train again"
        )
    return net


def finish(run, training, progress, say, again=None):
    """Train the remaining epochs, then print the summary."""
    options, started = training.options, time.perf_counter()
    again = again or parallel.command(run.again)
    try:
        # An overflow shows in the loss, which reports it once; NumPy would report it wherever it spreads.
        bar = progress_bar(training, progress)
        write = journal.JOURNALS[options.log if parallel.rank() == 0 else None]
        with np.errstate(all="ignore"), bar, write(run.path, training.epoch) as log:
            while training.epoch < options.epochs:
                training.step(bar)
                training.save(run)
                training.tell(log)
                try:
                    if parallel.rank() == 0:
                        run.write_tables(training.facts())
                except PermissionError as error:  # Windows, while a spreadsheet program has it open
                    if training.epoch == options.epochs:
                        raise
                    say(f"{error.filename} cannot be written ({error.strerror}); the next epoch tries again")
                with bar.external_write_mode(file=sys.stdout):
                    say(epoch_line(training))
    except KeyboardInterrupt as stop:
        raise stopping.Stopped(
            f"stopped; {saved(run, training)}. Continue with: {again}", getattr(stop, "status", 130) - 128
        ) from None
    except NotFinite as error:
        raise UsageError(
            f"{error}; lower --lr (now {options.lr:g}). "
            + (
                f"{run.path / 'last.npz'} keeps the last good epoch, {training.saved}"
                if training.saved
                else f"No epoch of {run.path} is saved yet"
            )
        ) from None
    except UsageError as error:  # a recording that has disappeared, say
        raise UsageError(f"{error}; {saved(run, training)}. Then continue with: {again}") from None
    except OSError as error:
        raise UsageError(not_written(run, training, error, again)) from None
    return summary(run, training, time.perf_counter() - started, say)


def saved(run, training):
    """What is on disk, for a message."""
    if not training.saved:
        return f"no epoch is saved yet in {run.path}"
    return f"{training.saved} of {training.options.epochs} epochs are saved in {run.path}"


def not_written(run, training, error, again):
    """An OSError as one line: which file, what is saved, how to continue."""
    return (
        f"{error.filename or run.path} cannot be written ({error.strerror or error}); {saved(run, training)}. "
        f"{files.remedy(error).capitalize()}, then continue with: {again}"
    )


def progress_bar(training, wanted):
    """A tqdm bar over all samples of all epochs, on standard error if that is a terminal; its text fits into 80 columns."""
    if not wanted:  # a worker that is killed would leave tqdm's lock held
        return NoBar()
    from tqdm import tqdm

    columns = shutil.get_terminal_size().columns
    line = "{percentage:3.0f}%, {remaining} left, {rate_noinv_fmt}{postfix}"
    if columns >= 90:
        line = f"{{percentage:3.0f}}%|{{bar:{min(30, columns - 82)}}}| {{remaining}} left, {{rate_noinv_fmt}}{{postfix}}"
    count = len(training.samples)
    return tqdm(
        total=training.options.epochs * count,
        initial=training.epoch * count,
        unit=" samples",
        unit_scale=True,
        bar_format=line,
        ncols=columns,
        nrows=20,
        smoothing=0.05,
        disable=None,
    )


class NoBar(contextlib.nullcontext):
    """Stands in for a progress bar and ignores its calls."""

    def set_postfix_str(self, text, refresh=True):
        pass

    def update(self, count):
        pass

    def external_write_mode(self, file=None):
        return contextlib.nullcontext()


def epoch_line(training):
    """The line that reports a finished epoch."""
    row, o = dict(zip(training.columns, training.rows[-1])), training.options
    validated = f", validation {row['validation_accuracy']:.2%}" if "validation_accuracy" in row else ""
    left = (o.epochs - training.epoch) * row["seconds"]
    return (
        f"epoch {training.epoch}/{o.epochs}: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.2%}"
        f"{validated}, test {row['test_accuracy']:.2%}, firing rate {row['firing_rate']:.4f}, "
        f"{row['samples_per_second']:.0f} samples/s, "
        f"{duration(left)} left"
    )


def duration(seconds):
    """Seconds in readable form: 48 s, 3:05 min, 2:10 h."""
    s = round(seconds)
    return f"{s} s" if s < 60 else f"{s // 60}:{s % 60:02d} min" if s < 3600 else f"{s // 3600}:{s % 3600 // 60:02d} h"


def summary(run, training, seconds, say):
    """Report the end of a run: what it reached, and what to do next."""
    rows, o = [dict(zip(training.columns, row)) for row in training.rows], training.options
    if training.last is None:  # an earlier version kept what its best epoch reached, and no more
        with training.averaged():
            training.last = reached(training.epoch, training.evaluate(training.test, "test"))
    last, highest = rows[-1], max(rows, key=lambda row: row["test_accuracy"])
    checkpoint, found = ("last", training.last) if training.best is None else ("best", training.best)
    validated = rows[found["epoch"] - 1].get("validation_accuracy")
    silent = found["silent_shortcuts"]
    how = "the last" if validated is None else f"chosen by its {validated:.2%} on the validation samples"
    say("")
    say(f"test accuracy     {found['test_accuracy']:.2%} (epoch {found['epoch']}, {how})")
    say(f"highest           {highest['test_accuracy']:.2%} test accuracy of any epoch ({highest['epoch']}); it chooses nothing")
    say(f"spikes            {found['spikes']:,.0f} per sample, {found['firing_rate']:.4f} per neuron and step")
    say(f"energy            {found['energy_mj']:.4g} mJ per sample (45 nm): {found['ac']:,.0f} AC, {found['mac']:,.0f} MAC")
    if o.model in models.SYSTEMS:
        say(f"silent shortcuts  {', '.join(map(str, silent)) or 'none'}" + (" (on the test set)" if silent else ""))
    say(f"run folder        {run.path}")
    commands: list[tuple[Any, ...]] = [(name, run.path) for name in ("evaluate", "energy", "plot")]
    if silent and models.SYSTEMS[o.model]["residual"] in PRUNABLE:
        commands.append(("prune", run.path, "--out", f"{run.path}-pruned"))
    for k, words in enumerate(commands):
        say(("" if k else "next").ljust(18) + terminal.command(*words))
    return {
        "dataset": o.dataset,
        "model": o.model,
        **found,
        "checkpoint": checkpoint,
        "validation_accuracy": validated,
        "highest_test_accuracy": highest["test_accuracy"],
        "last_test_accuracy": last["test_accuracy"],
        "epochs": training.epoch,
        "seconds": sum(row["seconds"] for row in rows),
        "wall_seconds": seconds,
        "samples_per_second": last["samples_per_second"],
        "parameters": run.config["parameters"],
        "run": str(run.path),
    }


def new_network(options, dataset):
    """(network, the arguments of ``models.from_config`` that make it).

    Its batch norms start at weight ``gain``. Neurons of tau = 2 halve their input: after a batch norm of weight 1 they
    fire at 2 standard deviations, in 1 of 27 steps, and the gradient shrinks to 0.85 with each layer. A gain of 1.7 lets three
    times as many fire, and learning takes off sooner.
    """
    config = {"preset": dataset.preset, **options.network()}
    engine.manual_seed(options.seed)
    net = models.from_config(config)
    set_gain(net, options.gain)
    return net, config


def set_gain(net, gain):
    """Give all batch norms of a network the weight ``gain``."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[...] = gain


def limit_threads(count):
    """Set the number of threads."""
    try:
        threads.set_num_threads(count)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--threads: {error}") from None


def check_parts(dataset):
    """Raise UsageError if a data set lacks the part to train on or the part to test on."""
    for part in ("train", "test"):
        samples = getattr(dataset, part)
        if samples is None or len(samples) == 0:
            raise UsageError(
                f"{dataset.name} has no samples to {part} with here ({dataset.note}); complete the copy, or give "
                "another --data-dir"
            )
