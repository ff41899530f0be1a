"""Every operation, held to the same properties: one test per property, run over the table of operations.py."""

import itertools
import weakref

import numpy as np
import pytest
from checks import close, threads
from hypothesis import given, settings
from operations import OPERATIONS, SURROGATES

from minisnn import Tensor, gradcheck, ledger, no_grad, ops, surrogate

FLOAT32, FLOAT64 = DTYPES = np.dtype(np.float32), np.dtype(np.float64)


def small(op, sample):
    return not sample.large


def over(keep=small):
    """Make of a check of one sample a test of each row, over those of its samples that ``keep`` takes. Where it fails, the last
    line that it printed names the sample.
    """

    def made(check):
        rows = [(op, [sample for sample in op.samples if keep(op, sample)]) for op in OPERATIONS if op.gradient]

        @pytest.mark.parametrize("op, samples", [pytest.param(*row, id=row[0].name) for row in rows if row[1]])
        def test(op, samples):
            for sample in samples:
                print(f"{op.name}: {sample.name}")
                check(op, sample)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return made


def tensors_of(sample, dtype=FLOAT64, needs=None, arrange=np.asarray):
    """The inputs as leaves, each an array of its own; ``needs``: numbers of those that require a gradient, None for all."""
    return [
        Tensor(arrange(x.copy() if x.dtype == bool else x.astype(dtype)), needs is None or k in needs, dtype)
        for k, x in enumerate(sample.inputs)
    ]


def upstream(out):
    """A gradient of the result, always the same for a shape."""
    return np.random.default_rng(0).standard_normal(out.shape).astype(out.dtype)


def gradients(out, leaves, grad=None, **options):
    out.backward(upstream(out) if grad is None else grad, **options)
    return [leaf.grad for leaf in leaves]


def evaluate(op, sample, dtype=FLOAT64):
    """[result, gradient of each input]."""
    leaves = tensors_of(sample, dtype)
    out = op.call(*leaves, **sample.options)
    return [out.data, *gradients(out, leaves)]


def same_bits(got, expected):
    for one, two in zip(got, expected, strict=True):
        assert one.dtype == two.dtype and np.array_equal(one, two, equal_nan=True)


def check_definition(op, sample, dtype):
    """The result, its kind and, of a definition on the tape, its gradients."""
    rtol = op.rtol[dtype == FLOAT64]
    leaves = tensors_of(sample, dtype)
    result = op.call(*leaves, **sample.options)
    if op.on_tape:  # in float64, so that only the operation rounds
        exact = [Tensor(x.data.astype(np.float64), requires_grad=True) for x in leaves]
        expected = op.definition(*exact, **sample.options)
        for got, want in zip(gradients(result, leaves), gradients(expected, exact, upstream(result))):
            close(got, want.astype(dtype), rtol)
        expected = expected.data
    else:
        expected = np.asarray(op.definition(*(x.data for x in leaves), **sample.options))
    assert isinstance(result, Tensor) and result.dtype == dtype and result.is_spikes == op.spikes(sample.inputs, sample.options)
    if op.exact or op.spikes(sample.inputs, sample.options):
        assert result.shape == expected.shape and np.array_equal(result.data, expected)
    else:
        close(result.data, expected.astype(dtype), rtol)


def check_slope(op, sample):
    """The gradient against finite differences; that of spikes too, as the numbers 0 and 1, unless only spikes will do."""
    leaves = tensors_of(sample)
    free = [k for k, x in enumerate(leaves) if not (x.is_spikes and op.only_spikes(sample.options))]

    def f(*moved):
        inputs = dict(enumerate(leaves)) | dict(zip(free, moved))
        return op.call(*(inputs[k] for k in range(len(leaves))), **op.smooth_twin(sample.options))

    gradcheck(f, [leaves[k] for k in free], rtol=op.slope_rtol)


# ---- the table ----------------------------------------------------------------------------------------------------------


def test_every_operation_has_a_row():
    names = [op.name for op in OPERATIONS]
    assert len(names) == len(set(names)) and set(names) >= set(ops.__all__)


def test_every_method_and_operator_of_a_tensor_is_in_a_row():
    comparisons = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}  # ndarrays of bool: test_engine.py
    bound = {
        name
        for name, value in vars(Tensor).items()
        if getattr(getattr(value, "fget", value), "__module__", None) == ops.elementary.__name__
    }
    assert {name for op in OPERATIONS for name in op.spelled} >= bound - comparisons and len(bound) > 30


def test_neurons_are_tried_with_every_surrogate():
    assert {type(s).__name__ for s in SURROGATES} == set(surrogate.__all__) - {"Surrogate"}


def test_every_row_says_what_it_refuses_and_tries_spikes():
    for op in OPERATIONS:
        assert op.refusals, f"{op.name} refuses nothing"
        if op.gradient:
            assert any(x.dtype == bool for sample in op.samples for x in sample.inputs), f"{op.name} is not tried with spikes"
        assert len({sample.name for sample in op.samples}) == len(op.samples), f"{op.name} has two samples of one name"


# ---- values and gradients -----------------------------------------------------------------------------------------------


@over()
def test_equals_its_definition(op, sample):
    for dtype in DTYPES:
        check_definition(op, sample, dtype)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPERATIONS if not op.gradient])
def test_what_has_no_gradient_equals_its_definition(op):
    for sample in op.samples:
        for call in (op.call, *op.spelled.values()):
            got = call(*tensors_of(sample), **sample.options)
            expected = op.definition(*(x.data for x in tensors_of(sample)), **sample.options)
            assert type(got) is np.ndarray or np.isscalar(got)
            assert got.dtype == expected.dtype and got.shape == expected.shape and np.array_equal(got, expected)


@over(lambda op, sample: small(op, sample) and op.smooth_twin is not None and sample.smooth)
def test_the_gradient_is_the_slope(op, sample):
    check_slope(op, sample)


@over(lambda op, sample: small(op, sample) and op.smooth_twin is not None and op.smooth_twin(sample.options) != sample.options)
def test_a_smooth_twin_equals_its_definition(op, sample):
    for options in (op.smooth_twin(sample.options), sample.options | dict(smooth=True)):
        check_definition(op, sample._replace(options=options), FLOAT64)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPERATIONS if op.drawn is not None])
def test_drawn_samples(op):
    """What chance draws: its value, its gradient, float32 and what is counted."""

    @settings(deadline=None, max_examples=op.examples)
    @given(op.drawn)
    def check(sample):
        check_definition(op, sample, FLOAT64)
        if not op.fires:
            check_definition(op, sample, FLOAT32)
            check_float32(op, sample)
        if op.smooth_twin is not None:
            if op.smooth_twin(sample.options) != sample.options:
                check_definition(op, sample._replace(options=op.smooth_twin(sample.options)), FLOAT64)
            if sample.smooth:
                check_slope(op, sample)
        check_counts(op, sample)

    check()


def check_float32(op, sample):
    """The gradients have the dtypes and shapes of their tensors and are, but for rounding, those of float64."""
    rounded = sample._replace(inputs=tuple(x if x.dtype == bool else x.astype(np.float32) for x in sample.inputs))
    for got, exact in zip(evaluate(op, rounded, FLOAT32), evaluate(op, rounded, FLOAT64), strict=True):
        assert got.dtype == np.float32
        close(got, exact.astype(np.float32), op.rtol[0])


@over()
def test_float32_gives_float32(op, sample):
    check_float32(op, sample)


@over()
def test_a_gradient_arrives_at_every_operand(op, sample):
    """At each alone as at all together, and at no other."""
    together = evaluate(op, sample)
    for k in range(len(sample.inputs)):
        leaves = tensors_of(sample, needs={k})
        out = op.call(*leaves, **sample.options)
        same_bits([out.data], together[:1])
        got = gradients(out, leaves)
        same_bits([got[k]], [together[1 + k]])
        assert all(grad is None for j, grad in enumerate(got) if j != k)


@over(lambda op, sample: small(op, sample) and len(sample.inputs) == 2 and sample.inputs[0].shape == sample.inputs[1].shape)
def test_one_tensor_may_be_both_operands(op, sample):
    twice = sample._replace(inputs=(sample.inputs[1],) * 2)
    out, *parts = evaluate(op, twice)
    leaf = tensors_of(twice)[0]
    shared = op.call(leaf, leaf, **sample.options)
    same_bits([shared.data, *gradients(shared, [leaf])], [out, parts[0] + parts[1]])


@over(lambda op, sample: small(op, sample) and op.spelled)
def test_methods_and_operators_are_the_operation(op, sample):
    """An operand that is handed over as an array gets no gradient; the others get theirs."""
    expected = evaluate(op, sample)
    for spelling in op.spelled.values():
        leaves = tensors_of(sample)
        out = spelling(*leaves, **sample.options)
        assert isinstance(out, Tensor) and out.dtype == np.float64
        got = gradients(out, leaves)
        assert any(grad is not None for grad in got)
        same_bits([out.data], expected[:1])
        same_bits(*zip(*((grad, want) for grad, want in zip(got, expected[1:]) if grad is not None)))


# ---- memory -------------------------------------------------------------------------------------------------------------


def with_gaps(x):
    return np.repeat(x, 2, -1)[..., ::2] if x.ndim else x


def backwards(x):
    return np.ascontiguousarray(x[::-1, ...])[::-1, ...] if x.ndim else x


def channels_last(x):
    """As operations keep maps: they read such an array where it is, and copy any other."""
    return np.ascontiguousarray(np.moveaxis(x, -3, -1)).transpose(*range(x.ndim - 3), -1, -3, -2) if x.ndim > 2 else x


def as_fortran(x):
    return np.array(x, order="F")


LAYOUTS = as_fortran, with_gaps, backwards, channels_last
IN_PLACE = np.asarray, channels_last  # those in which an operation may read, or overwrite, the very memory of its inputs


@over()
def test_the_order_in_memory_does_not_matter(op, sample):
    """Of the inputs, and of the gradient that comes back."""
    expected = evaluate(op, sample)
    for arrange in LAYOUTS:
        leaves = tensors_of(sample, arrange=arrange)
        assert all(np.array_equal(leaf.storage, x) for leaf, x in zip(leaves, sample.inputs))
        out = op.call(*leaves, **sample.options)
        for got, want in zip([out.data, *gradients(out, leaves, arrange(upstream(out)))], expected, strict=True):
            close(got, want, 1e-12)


@over()
def test_nothing_that_was_handed_over_is_changed(op, sample):
    for arrange in IN_PLACE:
        leaves = tensors_of(sample, arrange=arrange)
        out = op.call(*leaves, **sample.options)
        grad, value = arrange(upstream(out)), out.data.copy()
        gradients(out, leaves, grad)
        same_bits([leaf.data for leaf in leaves], [x.astype(np.float64) for x in sample.inputs])
        same_bits([grad, out.data], [upstream(out), value])


@over()
def test_twice_gives_the_same_bits(op, sample):
    """Forward, and backward through one graph: it must leave alone what it will read again."""
    for arrange in IN_PLACE:
        leaves = tensors_of(sample, arrange=arrange)
        out = op.call(*leaves, **sample.options)
        first = [out.data, *gradients(out, leaves)]
        leaves = tensors_of(sample, arrange=arrange)
        out = op.call(*leaves, **sample.options)
        same_bits([out.data, *gradients(out, leaves, retain_graph=True)], first)
        for leaf in leaves:
            leaf.zero_grad()
        same_bits([out.data, *gradients(out, leaves)], first)


@over()
def test_nothing_is_kept_under_no_grad(op, sample):
    """No graph, and no input is alive, but for memory that the result itself lies in."""
    leaves = tensors_of(sample)
    with no_grad():
        out = op.call(*leaves, **sample.options)
    assert out.is_leaf and not out.requires_grad
    alive = [weakref.ref(leaf) for leaf in leaves]
    alive += [weakref.ref(leaf.storage) for leaf in leaves if leaf.storage is not memory_of(out.storage)]
    del leaves
    assert not any(reference() is not None for reference in alive)
    same_bits([out.data], evaluate(op, sample)[:1])


def memory_of(array):
    """The array that owns the memory of a view."""
    return array if array.base is None else memory_of(array.base)


@over()
def test_backward_never_reads_what_was_overwritten(op, sample):
    """Either it refuses, or it gives the gradient that it would have given: what ``Function.reuses`` promises."""
    count = len(sample.inputs)
    for needs, changed in itertools.product([*({k} for k in range(count)), None], range(count)):
        leaves = tensors_of(sample, needs=needs, arrange=channels_last)  # read where they are: what is kept is not a copy
        out = op.call(*leaves, **sample.options)
        expected = gradients(out, leaves, retain_graph=True)
        for leaf in leaves:
            leaf.zero_grad()
        storage = leaves[changed].storage
        storage[...] = ~storage if storage.dtype == bool else 0.7 - 2 * storage
        leaves[changed].changed_in_place()
        try:
            got = gradients(out, leaves)
        except RuntimeError as error:
            assert "was changed in place" in str(error)
            continue
        same_bits(*([grad for grad in grads if grad is not None] for grads in (got, expected)))


# ---- spikes -------------------------------------------------------------------------------------------------------------


def takes_spikes(op, sample):
    return small(op, sample) and any(x.dtype == bool for x in sample.inputs)


@over(takes_spikes)
def test_spikes_are_the_numbers_0_and_1(op, sample):
    as_numbers = sample._replace(inputs=tuple(x.astype(np.float64) for x in sample.inputs))
    for dtype in DTYPES:
        same_bits(evaluate(op, sample, dtype), evaluate(op, as_numbers, dtype))


@over(takes_spikes)
def test_true_may_be_another_byte_than_1(op, sample):
    """As in a black-and-white image of Pillow's."""
    for byte in (7, 255):
        odd = [(x.astype(np.uint8) * np.uint8(byte)).view(bool) if x.dtype == bool else x for x in sample.inputs]
        leaves = [Tensor(x, requires_grad=True, dtype=np.float64) for x in odd]
        out = op.call(*leaves, **sample.options)
        assert not out.is_spikes or out.storage.view(np.uint8).max(initial=0) <= 1
        same_bits([out.data, *gradients(out, leaves)], evaluate(op, sample))


# ---- threads, batch and counts ------------------------------------------------------------------------------------------


@over(lambda op, sample: True)
def test_results_do_not_depend_on_the_number_of_threads(op, sample):
    for dtype in DTYPES:
        results = []
        for n in (1, 2):
            with threads(n):
                results.append(evaluate(op, sample, dtype))
        same_bits(*results)


def counted(op, leaves, options):
    with ledger.ledger() as entries:
        out = op.call(*leaves, **options)
    return out, {name: sum(getattr(entry, name) for entry in entries) for name in ("spikes", "neurons", "ac", "mac")}


@over(lambda op, sample: op.batch(sample) is not None)
def test_a_sample_does_not_depend_on_its_batch(op, sample):
    """Its result, its gradient and what is counted for it."""
    axis = op.batch(sample)
    for dtype in DTYPES:
        leaves = tensors_of(sample, dtype)
        out, counts = counted(op, leaves, sample.options)
        grad = upstream(out)
        whole = gradients(out, leaves, grad)
        for parts in np.arange(out.shape[axis]), (0, out.shape[axis] // 3):  # where each of the parts of the batch begins
            total = dict.fromkeys(counts, 0)
            for begin, end in zip(parts, [*parts[1:], None]):
                cut = (slice(None),) * axis + (slice(begin, end),)
                if begin == end:
                    continue
                some = [
                    Tensor(leaf.storage[cut] if k in op.batched else leaf.storage, requires_grad=True, dtype=dtype)
                    for k, leaf in enumerate(leaves)
                ]
                alone, own = counted(op, some, sample.options)
                got = gradients(alone, some, grad[cut])
                same_bits([alone.data, *(got[k] for k in op.batched)], [out.data[cut], *(whole[k][cut] for k in op.batched)])
                total = {name: total[name] + own[name] for name in total}
            assert total == counts


def check_counts(op, sample):
    """What is written down, and that writing it down changes nothing."""
    leaves = tensors_of(sample)
    out, found = counted(op, leaves, sample.options)
    same_bits([out.data], [op.call(*tensors_of(sample), **sample.options).data])
    expected = op.counts(out.data, *(leaf.data for leaf in leaves), **sample.options)
    assert {name: found[name] for name in expected} == expected
    assert expected or not any(found.values()), f"{op.name} counts something that its row does not name: {found}"


@over()
def test_what_is_counted(op, sample):
    check_counts(op, sample)


# ---- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op, refusal",
    [pytest.param(op, refusal, id=f"{op.name}-{k}") for op in OPERATIONS for k, refusal in enumerate(op.refusals)],
)
def test_refusals_name_the_operation(op, refusal):
    inputs = [Tensor(x) if isinstance(x, np.ndarray) else x for x in refusal.inputs]
    with np.errstate(all="ignore"), pytest.raises(refusal.error, match=refusal.words) as caught:
        op.call(*inputs, **refusal.options)
    message = str(caught.value).lower().replace("_", "")
    assert any(name.replace("_", "") in message for name in (op.name, *op.parts)), f"{caught.value} does not name {op.name}"


@over(
    lambda op, sample: (
        small(op, sample)
        and sample.inputs[0].size > 0
        and sample.inputs[0].dtype != bool
        and not op.only_spikes(sample.options)
    )
)
def test_nan_reaches_what_it_reaches_by_definition_or_is_refused(op, sample):
    x = sample.inputs[0].copy()
    x.reshape(-1)[x.size // 2] = np.nan
    leaves = [Tensor(x), *tensors_of(sample)[1:]]
    with np.errstate(all="ignore"):
        if op.refuses_nan(sample.options):
            with pytest.raises(FloatingPointError, match="NaN"):
                op.call(*leaves, **sample.options)
            return
        out = op.call(*leaves, **sample.options).data
        expected = op.definition(*(leaves if op.on_tape else [leaf.data for leaf in leaves]), **sample.options)
    assert np.array_equal(np.isnan(out), np.isnan(expected.data if op.on_tape else expected))
