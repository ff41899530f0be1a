"""The tape: what backward() promises, and what it refuses; test_operations.py has the elementary operations."""

import concurrent.futures
import gc
import operator
import sys
import threading

import numpy as np
import PIL.Image
import pytest
from checks import leaf, spread

import minisnn as snn
from minisnn import Function, Tensor, engine, gradcheck, ledger, nn, no_grad, ops, optim

# ---- tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_dtype, dtype",
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float32),
        (np.uint8, np.float32),
        (np.bool_, np.float32),
        (np.float16, np.float32),
    ],
)
def test_dtype_follows_the_data(given_dtype, dtype):
    array = np.array([[0, 1], [1, 0]], given_dtype)
    x = Tensor(array)
    assert x.dtype == dtype and x.data.dtype == dtype and np.array_equal(x.data, array)
    assert Tensor(array, dtype=np.float64).data.dtype == np.float64


def test_floating_arrays_are_not_copied():
    array = np.zeros((2, 3))
    assert Tensor(array).data is array and Tensor(Tensor(array)).data is array


def test_spikes_take_one_byte_each():
    x = Tensor(np.array([True, False, True]), dtype=np.float64)
    assert x.is_spikes and x.storage.dtype == np.bool_ and x.storage.nbytes == 3
    assert x.data.dtype == np.float64 and x.data.tolist() == [1, 0, 1]
    assert (x + 1.0).data.tolist() == [2, 1, 2]
    assert x.detach().is_spikes
    assert not Tensor([1.0, 0.0]).is_spikes


@pytest.mark.parametrize("data", ["ab", [1j], [None], np.array(["2020"], "M8[D]")])
def test_only_numbers(data):
    with pytest.raises(TypeError, match="holds numbers"):
        Tensor(data)


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.bool_])
def test_only_two_dtypes(dtype):
    with pytest.raises(TypeError, match="float32 or float64"):
        Tensor([1.0], dtype=dtype)


def test_conversions_and_looks():
    x = Tensor([[1.0, 2.0]])
    assert x.shape == (1, 2) and x.ndim == 2 and x.size == 2 and len(x) == 1 and x.is_leaf
    assert np.array_equal(x.numpy(), np.asarray(x)) and Tensor(3).item() == 3.0
    assert "float64" in repr(x) and "made by Mul" in repr(leaf([1.0]) * 2)
    with pytest.raises(ValueError):
        x.item()


# ---- backward ---------------------------------------------------------------------------------------------------------


def test_chain_rule_through_a_diamond():
    x = leaf(3.0)
    y = x * x
    (y * y + y).backward()  # x^4 + x^2
    assert x.grad.shape == () and x.grad == 4 * 27 + 6


def test_gradients_add_up_until_forgotten():
    x = leaf([1.0, 2.0])
    for k in (1, 2):
        (x * 3.0).sum().backward()
        assert x.grad.tolist() == [3.0 * k] * 2
    x.zero_grad()
    assert x.grad is None


def test_a_gradient_is_an_array_of_its_own():
    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    upstream = np.ones(2)
    (x + y).backward(upstream)
    x.grad += 1
    assert y.grad.tolist() == [1, 1] and upstream.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_has_shape_and_dtype_of_its_tensor(dtype):
    x, b = leaf(np.ones((2, 3)), dtype), leaf(np.ones(3), dtype)
    ((x * 2 + b) / np.float64(3)).sum().backward()
    assert x.grad.shape == (2, 3) and b.grad.shape == (3,) and x.grad.dtype == b.grad.dtype == dtype
    np.testing.assert_allclose(b.grad, 2 / 3, rtol=1e-6)


def test_the_gradient_of_the_result_can_be_given():
    x = leaf([1.0, 2.0])
    (x * x).backward(Tensor([10.0, 1.0]))
    assert x.grad.tolist() == [20, 4]


def test_a_leaf_is_its_own_graph():
    x = leaf(2.0)
    x.backward()
    assert x.grad == 1


def test_detach_stops_the_gradient():
    x = leaf(3.0)
    (x * (x * x).detach()).backward()
    assert x.grad == 9
    assert not (x * x).detach().requires_grad


def test_retain_grad_keeps_the_gradient_of_what_is_no_leaf():
    x = leaf([1.0, 2.0])
    y = (x * 2).retain_grad()
    z = y * y
    z.sum().backward()
    assert y.grad.tolist() == [4, 8] and x.grad.tolist() == [8, 16] and z.grad is None


def test_retain_graph_allows_a_second_time():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == 12


def test_no_grad_remembers_nothing_and_nests():
    x = leaf(1.0)
    with no_grad():
        assert not snn.is_grad_enabled()
        with no_grad():
            pass
        assert not snn.is_grad_enabled()
        y = x * 2
    assert snn.is_grad_enabled() and not y.requires_grad and y.is_leaf
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert snn.is_grad_enabled()


def test_no_grad_decorates_a_function_that_calls_itself():
    @no_grad()
    def countdown(n):
        assert not snn.is_grad_enabled()
        return n if n == 0 else countdown(n - 1)

    countdown(3)
    assert snn.is_grad_enabled()


def test_inputs_that_need_no_gradient_get_none():
    x, c = leaf([1.0]), Tensor([2.0])
    (x * c).backward()
    assert c.grad is None and x.grad.tolist() == [2]


@pytest.mark.parametrize("depth", [10 * sys.getrecursionlimit()])
def test_a_graph_deeper_than_the_recursion_limit(depth):
    x = leaf(1.0)
    y = x
    for _ in range(depth):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    y = x
    for _ in range(depth):
        y = y + 1.0
    del y  # never walked: taking the graph apart must not recurse either
    gc.collect()


# ---- what backward refuses --------------------------------------------------------------------------------------------


class Answering(Function):
    """The identity, whose backward answers with whatever it was told."""

    def forward(self, x, answer):
        self.answer = answer
        return x

    def backward(self, grad):
        return self.answer


@pytest.mark.parametrize(
    "answer, complaint",
    [
        (None, "gave no gradient for an input of shape"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones(2, np.float32), "dtype float32"),
        (1.0, "gave a float"),
        ((np.ones(2), np.ones(2)), "2 gradients for 1 inputs"),
        ((), "0 gradients for 1 inputs"),
    ],
)
def test_a_wrong_answer_names_its_operation(answer, complaint):
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=f"Answering.*{complaint}"):
        Answering.apply(x, answer=answer).sum().backward()
    assert x.grad is None


def test_an_operation_without_a_gradient_names_itself():
    class Rounded(Function):
        def forward(self, x):
            return np.round(x)

    with pytest.raises(NotImplementedError, match="Rounded has no gradient"):
        Rounded.apply(leaf([1.2])).backward()
    with pytest.raises(NotImplementedError, match="Function has no forward"):
        Function.apply(leaf([1.2]))


def test_a_failure_leaves_no_half_added_gradients():
    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="Answering"):
        (y * 2 + Answering.apply(x, answer=None)).sum().backward()
    assert x.grad is None and y.grad is None


def test_a_freed_graph_is_refused():
    x = leaf(3.0)
    y = x * x
    z = y + 1
    y.backward()
    with pytest.raises(RuntimeError, match="second time through Mul.*retain_graph"):
        y.backward()
    with pytest.raises(RuntimeError, match="second time through Mul"):
        z.backward()
    assert x.grad == 6


def test_several_elements_need_a_gradient():
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs the gradient"):
        (leaf([1.0, 2.0]) * 2).backward()
    with pytest.raises(RuntimeError, match=r"backward\(\) gave a gradient of shape \(3,\)"):
        (leaf([1.0, 2.0]) * 2).backward(np.ones(3))


def test_backward_under_no_grad_is_refused():
    y = leaf(1.0) * 2
    with no_grad(), pytest.raises(RuntimeError, match="under no_grad"):
        y.backward()


def test_backward_without_a_graph_is_refused():
    with pytest.raises(RuntimeError, match="without a graph"):
        (Tensor(1.0) * 2).backward()
    with no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="without a graph"):
        y.backward()


def test_dtypes_are_not_mixed_silently():
    with pytest.raises(TypeError, match="Add got tensors of float32, float64"):
        Tensor([1.0], dtype=np.float32) + Tensor([1.0], dtype=np.float64)
    assert (Tensor([1.0], dtype=np.float32) + np.array([1.0])).dtype == np.float32  # a plain array gives way


def test_an_operation_takes_tensors():
    with pytest.raises(TypeError, match="Exp takes Tensors, not ndarray"):
        ops.exp(np.ones(2))
    with pytest.raises(TypeError, match="exponent"):
        leaf(2.0) ** leaf(2.0)


# ---- elementary operations --------------------------------------------------------------------------------------------


def test_ties_share_the_gradient_of_a_maximum():
    x = leaf([[2.0, 2.0, 1.0], [0.0, 1.0, 1.0]])
    x.max(1).sum().backward()
    assert x.grad.tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5]]


def test_no_overflow_in_sigmoid():
    x = leaf([-1e4, 0.0, 1e4])
    y = ops.sigmoid(x)
    y.sum().backward()
    assert y.data.tolist() == [0, 0.5, 1] and x.grad.tolist() == [0, 0.25, 0]


def test_an_operation_of_ones_own():
    """The example in the head of engine.py."""

    class Square(Function):
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, grad):
            return 2 * self.x * grad

    gradcheck(Square.apply, leaf(spread((2, 3), 0)))


def test_seeded_random_numbers():
    snn.manual_seed(3)
    first = engine.generator().random(4)
    snn.manual_seed(3)
    assert np.array_equal(first, engine.generator().random(4))
    with pytest.raises(ValueError):
        snn.manual_seed(-1)


# ---- what is compared, and what changed since the forward pass ---------------------------------------------------------


COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparisons_are_element_by_element(compare):
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 3.0], [2.0, 4.0]])
    for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))):
        result = compare(left, right)
        assert type(result) is np.ndarray and result.dtype == bool and np.array_equal(result, compare(a, b))
    assert np.array_equal(compare(Tensor(a), 2), compare(a, 2)) and np.array_equal(compare(2, Tensor(a)), compare(2, a))
    spikes = np.array([True, False])
    assert np.array_equal(compare(Tensor(spikes), spikes), compare(spikes, spikes))


def test_a_tensor_is_itself_where_identity_counts():
    x, same = Tensor([1.0]), Tensor([1.0])
    assert {x: 1, same: 2}[x] == 1 and len({x, same}) == 2
    assert (x == None) is False and (x != None) is True and (x == "x") is False  # noqa: E711
    with pytest.raises(TypeError):
        x < "x"


def test_truth_is_that_of_an_array():
    assert bool(Tensor([2.0])) and not bool(Tensor(0)) and float(Tensor([2.5])) == 2.5 and int(Tensor([2.5])) == 2
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))


def step_on(p):
    p.grad = np.ones_like(p.data)
    optim.SGD([p], lr=0.5).step()


def load_into(p):
    holder = nn.Module()
    holder.p = p
    holder.load_state_dict({"p": p.data + 1})


def subtract_from(p):
    p.data -= 0.5


CHANGES = [step_on, load_into, subtract_from]
KEEP_W = {  # name: (a function of x and w that reads w again for x's gradient, the gradient by hand for a loss of ones)
    "product": lambda x, w: x * w,
    "quotient": lambda x, w: x / w,
    "matrix product": lambda x, w: x @ w,
    "linear": lambda x, w: ops.linear(x, w, Tensor(np.zeros(3))),
    "join": lambda x, w: ops.join(x, w, "and"),
    "convolution": lambda x, w: ops.conv2d(x.reshape(1, 1, 3, 3), w.reshape(1, 1, 3, 3), padding=1),
    "a view of it": lambda x, w: x * w.reshape(9).reshape(3, 3).T[::-1],
    "loss": ops.mse_loss,
    "an operation of one's own": lambda *inputs: OwnProduct.apply(*inputs),
    "detached": lambda x, w: x * w.detach(),
}


class OwnProduct(Function):
    def forward(self, x, w):
        self.x, self.w = x, w
        return x * w

    def backward(self, grad):
        return grad * self.w, grad * self.x


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", KEEP_W)
def test_backward_refuses_what_was_changed_in_place_since(name, change):
    rng = np.random.default_rng(0)
    x, w = leaf(rng.random((3, 3))), nn.Parameter(rng.random((3, 3)))
    out = KEEP_W[name](x, w).sum()
    out.backward(retain_graph=True)
    change(w)
    with pytest.raises(RuntimeError, match=r"changed in place .*by an optimizer's step"):
        out.backward()


@pytest.mark.parametrize("change", CHANGES)
def test_backward_runs_where_the_change_has_no_part_in_a_gradient(change):
    x, w = leaf(np.ones((3, 3))), nn.Parameter(np.full((3, 3), 2.0))
    for out, expected in (
        ((x + w).sum(), 1.0),
        ((x - w.reshape(9).reshape(3, 3)).sum(), 1.0),
        (ops.stack([x, w]).sum(), 1.0),
        (x.sum() * 3 + w.sum(), 3.0),
    ):
        change(w)
        x.grad = None
        out.backward()
        assert np.array_equal(x.grad, np.full((3, 3), expected))
    given = Tensor(np.ones((3, 3)))  # needs no gradient, so w is not read again
    out, w.grad = (given * w).sum(), None
    change(w)
    w.grad = None
    out.backward()
    assert np.array_equal(w.grad, np.ones((3, 3)))


def test_new_data_leaves_what_was_kept_alone():
    x, w = leaf(np.ones(3)), nn.Parameter(np.full(3, 2.0))
    out = (x * w).sum()
    w.data = np.full(3, 5.0)
    out.backward()
    assert np.array_equal(x.grad, np.full(3, 2.0))  # the weights of the forward pass


# ---- spikes from outside -----------------------------------------------------------------------------------------------


def odd_bytes(mask, byte=255):
    """Booleans whose True is another byte than 1, as Pillow's black-and-white images have."""
    return (mask.astype(np.uint8) * np.uint8(byte)).view(bool)


class Threshold(Function):
    def forward(self, x):
        return odd_bytes(x > 0.5, 7)

    def backward(self, grad):
        return grad


ENTRANCES = {
    "Tensor": lambda mask: Tensor(odd_bytes(mask)),
    "Tensor of float64": lambda mask: Tensor(odd_bytes(mask), dtype="float64"),
    "a view with gaps": lambda mask: Tensor(np.repeat(odd_bytes(mask), 2, -1)[..., ::2]),
    "read-only": lambda mask: Tensor(np.frombuffer(odd_bytes(mask).tobytes(), bool).reshape(mask.shape)),
    "data": lambda mask: given_later(odd_bytes(mask)),
    "an operation of one's own": lambda mask: Threshold.apply(Tensor(mask.astype(np.float32))),
    "Pillow": lambda mask: Tensor(
        np.stack(
            [
                np.asarray(PIL.Image.fromarray(image).convert("1"))
                for image in (mask.reshape(-1, *mask.shape[-2:]) * np.uint8(255))
            ]
        ).reshape(mask.shape)
    ),
}


def given_later(array):
    x = Tensor(np.zeros(array.shape, np.float32))
    x.data = array
    return x


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_booleans_are_cleaned_where_they_come_in(entrance):
    mask = np.random.default_rng(0).random((2, 3, 8, 6, 6)) < 0.3
    x = ENTRANCES[entrance](mask)
    assert x.is_spikes and np.array_equal(np.unique(x.storage.view(np.uint8)), [0, 1]) and np.array_equal(x.data, mask)
    w = Tensor(np.random.default_rng(1).standard_normal((16, 8, 3, 3)), dtype=x.dtype)
    for method in ("dense", "event"):
        expected = ops.conv2d(Tensor(mask, dtype=x.dtype), w, padding=1, method=method)
        assert np.array_equal(ops.conv2d(x, w, padding=1, method=method).data, expected.data)
    assert ops.avg_pool2d(x, 6).data.max() <= 1 and not ops.join(x, x, "iand").data.any()


def test_clean_booleans_are_not_copied():
    mask = np.ones((2, 2), bool)
    assert Tensor(mask).storage is mask


# ---- threads -----------------------------------------------------------------------------------------------------------


def in_a_thread(f):
    """What ``f`` returns in another thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(f).result()


def test_no_grad_and_ledgers_are_those_of_their_thread():
    x = leaf(np.ones(2))
    with no_grad(), ledger.ledger() as entries:
        assert in_a_thread(lambda: (x * x).requires_grad and not ledger.is_open())
        in_a_thread(lambda: ops.lif(Tensor(np.ones((1, 2)))))
        assert not snn.is_grad_enabled() and entries == []
        ops.lif(Tensor(np.ones((1, 2))))
        assert len(entries) == 1
    assert snn.is_grad_enabled()


def test_blocks_of_two_threads_that_overlap_do_not_mix():
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def first():
        with no_grad():
            first_in.set()
            assert second_in.wait(10)
        first_out.set()

    def second():
        assert first_in.wait(10)
        with no_grad():
            second_in.set()
            assert first_out.wait(10)
            seen.append(snn.is_grad_enabled())

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert seen == [False] and snn.is_grad_enabled()
