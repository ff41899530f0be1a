"""Dense convolution: the loops against SciPy and the adjoint identity, the fast paths against the loops."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d

from minisnn.ops import dense_conv, rows, winograd
from minisnn.ops.layout import Window
from minisnn.ops.winograd import WINDOW


def arrays(seed, B, H, W, Cin, Cout, window, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = (B, H, W, Cin), (window.kh, window.kw, Cin, Cout), (Cout,), (B, *window.output_shape(H, W), Cout)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(prefix, x, wt, bias, dy, window):
    """Output, input gradient and weight gradient; the results start as NaN, so that a pixel left out shows."""
    y, dx, dwt = (np.full_like(a, np.nan) for a in (dy, x, wt))
    getattr(dense_conv, prefix + "_forward")(y, x, wt, bias, window)
    getattr(dense_conv, prefix + "_input_gradient")(dx, dy, wt, window)
    getattr(dense_conv, prefix + "_weight_gradient")(dwt, x, dy, window)
    return y, dx, dwt


def relative_error(got, expected):
    return np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-300)


@st.composite
def convolutions(draw, largest=11):
    """B, H, W, Cin, Cout and a window with at least one output pixel."""
    window = Window(*(draw(st.integers(low, high)) for low, high in [(1, 4)] * 4 + [(0, 2)] * 2))
    H = draw(st.integers(max(1, window.kh - 2 * window.pad_h), largest))
    W = draw(st.integers(max(1, window.kw - 2 * window.pad_w), largest))
    Cin, Cout = (draw(st.sampled_from([1, 3, 8, 17, rows.COLUMNS, rows.COLUMNS + 1])) for _ in "io")
    return draw(st.integers(1, 9)), H, W, Cin, Cout, window


@pytest.mark.parametrize("steps", [(1, 1, 0, 0), (1, 1, 1, 1), (2, 2, 1, 1), (2, 1, 0, 2), (3, 2, 2, 0)])
def test_definition_equals_scipy(steps):
    window = Window(3, 2, *steps)
    x, wt, bias, y = arrays(0, 2, 6, 7, 2, 3, window)
    dense_conv.conv_forward(y, x, wt, bias, window)
    padded = np.pad(x, ((0, 0), (window.pad_h,) * 2, (window.pad_w,) * 2, (0, 0)))
    for b in range(2):
        for co in range(3):
            full = sum(correlate2d(padded[b, :, :, ci], wt[:, :, ci, co], "valid") for ci in range(2))
            expected = full[:: window.stride_h, :: window.stride_w] + bias[co]
            np.testing.assert_allclose(y[b, :, :, co], expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(convolutions(), st.integers(0, 9))
def test_definition_gradients_are_adjoint(shape, seed):
    # The convolution without bias is linear in x and in wt, so <dy, y> = <dx, x> = <dwt, wt>, for independent x as well.
    x, wt, bias, dy = arrays(seed, *shape)
    y, dx, dwt = run("conv", x, wt, np.zeros_like(bias), dy, shape[-1])
    scale = np.sqrt((dy**2).sum() * max((y**2).sum(), 1e-30))
    assert abs((dy * y).sum() - (dx * x).sum()) <= 1e-12 * scale
    assert abs((dy * y).sum() - (dwt * wt).sum()) <= 1e-12 * scale


@settings(deadline=None, max_examples=60)
@given(convolutions(), st.integers(0, 9))
def test_fast_paths_equal_the_definition(shape, seed):
    operands = arrays(seed, *shape)
    for got, expected in zip(run("dense", *operands, shape[-1]), run("conv", *operands, shape[-1])):
        assert relative_error(got, expected) <= 1e-12


@pytest.mark.parametrize(
    "shape",
    [
        (5, 28, 28, 16, 32, Window(3, 3, 2, 2, 1, 1)),
        (5, 14, 14, 32, 48, Window(1, 1, 2, 2, 0, 0)),
        (3, 28, 28, 1, 64, WINDOW),
        (2, 9, 8, 3, 70, Window(5, 5, 3, 3, 2, 2)),
    ],
)
def test_float32(shape):
    operands = arrays(1, *shape)
    results = run("dense", *(a.astype(np.float32) for a in operands), shape[-1])
    for got, expected in zip(results, run("conv", *operands, shape[-1])):
        assert got.dtype == np.float32 and relative_error(got, expected) <= 1e-5


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 13),
    st.integers(1, 13),
    st.sampled_from([16, 17, 64, 65]),
    st.sampled_from([16, 33, 64, 129]),
    st.integers(0, 9),
)
def test_winograd(B, H, W, Cin, Cout, seed):
    operands = arrays(seed, B, H, W, Cin, Cout, WINDOW)
    x, wt, bias, dy = (a.astype(np.float32) for a in operands)
    assert winograd.winograd_fits(W, Cin, Cout, WINDOW, x.dtype)
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    winograd.winograd_conv(y, x, wt, bias, False)
    winograd.winograd_conv(dx, dy, wt, np.zeros(Cin, np.float32), True)
    for got, expected in zip((y, dx), run("conv", *operands, WINDOW)):
        assert relative_error(got, expected) <= 1e-5


@pytest.mark.parametrize("more", [0, 1])
def test_the_widest_images_that_winograd_takes(more):
    W = 4 * winograd.CAPACITY // rows.COLUMNS + more
    assert winograd.winograd_fits(W, 16, 16, WINDOW, np.float32) == (not more)
    operands = arrays(6, 1, 2, W, 16, 16, WINDOW)
    results = run("dense", *(a.astype(np.float32) for a in operands), WINDOW)
    for got, expected in zip(results, run("conv", *operands, WINDOW)):
        assert relative_error(got, expected) <= 1e-5


def test_the_transforms_of_winograd_are_products_with_their_matrices():
    rng = np.random.default_rng(0)
    for transform, matrix in (
        (winograd._image_transform, winograd.B_T),
        (winograd._filter_transform, winograd.G),
        (winograd._output_transform, winograd.A_T),
    ):
        x, out = rng.standard_normal((matrix.shape[1], 5)), np.empty((len(matrix), 5))
        transform(out.reshape(-1), 0, 5, x.reshape(-1), 0, 5, 5)
        np.testing.assert_allclose(out, matrix @ x, rtol=1e-6, atol=1e-6)  # the points are float32
    d, g = rng.standard_normal(6), rng.standard_normal(3)
    outputs = winograd.A_T @ ((winograd.G @ g) * (winograd.B_T @ d))
    np.testing.assert_allclose(outputs, np.correlate(d, g), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("C, H, B", [(64, 28, 3), (128, 14, 9), (256, 7, 17), (512, 4, 16)])
def test_winograd_error_at_the_sizes_of_the_network(C, H, B):
    # Measured: 1e-6 to 3e-6 of the largest value.
    x, wt, _, dy = arrays(2, B, H, H, C, C, WINDOW, np.float32)
    dx, expected = np.empty_like(x), np.empty(x.shape)
    dense_conv.dense_input_gradient(dx, dy, wt, WINDOW)
    dense_conv.dense_input_gradient(expected, dy.astype(np.float64), wt.astype(np.float64), WINDOW)
    assert relative_error(dx, expected) <= 1e-5


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 9),
)
def test_the_matrix_product_equals_its_loops_to_the_bit(m, k, n, transposed, dtype, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(5 + m * k).astype(dtype), rng.standard_normal(3 + k * (n + 2)).astype(dtype)
    row, step = (1, m) if transposed else (k, 1)
    results = [np.full(7 + m * (n + 1), np.nan, dtype) for _ in range(2)]
    for out, multiply in zip(results, (rows.product, rows.product_loops)):
        multiply(out, 7, n + 1, x, 5, row, step, w, 3, n + 2, m, k, n)
    np.testing.assert_array_equal(*results)
    matrix = x[5:].reshape(k, m).T if transposed else x[5:].reshape(m, k)
    expected = matrix.astype(np.float64) @ w[3:].reshape(k, n + 2)[:, :n]
    got = results[0][7:].reshape(m, n + 1)
    assert np.isnan(got[:, n]).all()  # the gap between rows is nobody's
    np.testing.assert_allclose(got[:, :n], expected, atol=100 * np.finfo(dtype).eps * np.sqrt(k))


@pytest.mark.parametrize("value, C", [(np.nan, 16), (np.inf, 16), (1e6, 32), (-1e6, 32), (3e38, 16)])
def test_a_pixel_that_is_out_of_all_proportion_does_not_drown_its_neighbors(value, C):
    # Its image is convolved by the definition, the others by Winograd's method: whatever stands beside it in the batch.
    x, wt, bias, dy = arrays(5, 3, 9, 9, C, 20, WINDOW, np.float32)
    plain, wild, alone = np.empty_like(dy), np.empty_like(dy), np.empty_like(dy[1:2])
    dense_conv.dense_forward(plain, x, wt, bias, WINDOW)
    x[1, 4, 4, 2] = value
    dense_conv.dense_forward(wild, x, wt, bias, WINDOW)
    dense_conv.dense_forward(alone, x[1:2], wt, bias, WINDOW)
    assert np.array_equal(wild[[0, 2]], plain[[0, 2]]) and np.array_equal(wild[1:2], alone, equal_nan=True)
    touched = np.zeros((9, 9), bool)
    touched[3:6, 3:6] = True
    np.testing.assert_allclose(wild[1][~touched], plain[1][~touched], atol=1e-4)
    if not np.isfinite(value):
        assert not np.isfinite(wild[1][touched]).any()


SAME_SHAPES = [
    (40, 10, 10, 32, 48, WINDOW),
    (40, 9, 10, 32, 80, Window(3, 3, 2, 2, 1, 1)),
    (136, 4, 4, 512, 256, WINDOW),  # just too many tiles for one workspace
    (40, 7, 6, 17, 19, WINDOW),
    (40, 8, 8, 24, 5, Window(1, 1, 2, 2, 0, 0)),
]


@pytest.mark.parametrize("shape", SAME_SHAPES)
def test_results_do_not_depend_on_the_number_of_threads(shape):
    x, wt, bias, dy = arrays(3, *shape, np.float32)
    before = numba.get_num_threads()
    try:
        results = []
        for n in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(n)
            results.append(run("dense", x, wt, bias, dy, shape[-1]))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*results):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("shape", SAME_SHAPES)
def test_an_image_does_not_depend_on_its_batch(shape):
    x, wt, bias, dy = arrays(4, *shape, np.float32)
    y, dx, _ = run("dense", x, wt, bias, dy, shape[-1])
    for images in (slice(0, 1), slice(7, 20)):
        part_y, part_dx, _ = run("dense", x[images], wt, bias, dy[images], shape[-1])
        assert np.array_equal(part_y, y[images]) and np.array_equal(part_dx, dx[images])
