"""Solutions to tutorial 5; each wrong_... is a mistake that is easy to make, and that the check rejects.

conv_forward comes from the tutorial: in a notebook, paste a function over the empty one.
"""


def input_gradient(dy, w, padding):
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    return conv_forward(dy, turned, 1, w.shape[2] - 1 - padding)  # noqa: F821


def wrong_input_gradient(dy, w, padding):
    return conv_forward(dy, w.transpose(1, 0, 2, 3), 1, w.shape[2] - 1 - padding)  # noqa: F821  not turned


def wrong_input_gradient_2(dy, w, padding):
    return conv_forward(dy, w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), 1, 2 - padding)  # noqa: F821  3x3 kernels only


def wrong_input_gradient_3(dy, w, padding):
    return conv_forward(dy, w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), 1, padding)  # noqa: F821  right for 3x3 with padding 1


def field_of_view(kernels, strides):
    pixels, apart = 1, 1  # apart: pixels of the image between two neighbours on the present map
    for k, s in zip(kernels, strides):
        pixels += (k - 1) * apart
        apart *= s
    return pixels


def wrong_field_of_view(kernels, strides):
    return 1 + sum(k - 1 for k in kernels)  # forgets that strides move neighbours apart


def wrong_field_of_view_2(kernels, strides):
    pixels, apart = 1, 1
    for k, s in zip(kernels, strides):
        apart *= s  # a layer's own stride moves its outputs apart, not what its kernel looks at
        pixels += (k - 1) * apart
    return pixels
