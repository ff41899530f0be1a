"""Operations on tensors: each with its forward loop, the backward loop next to it, and the public function."""

from .alif import alif
from .attention import attention
from .batch_norm import batch_norm
from .conv import conv2d
from .elementary import (
    abs,
    add,
    concatenate,
    div,
    exp,
    index,
    log,
    matmul,
    max,
    mean,
    min,
    mul,
    neg,
    power,
    relu,
    reshape,
    sigmoid,
    sqrt,
    stack,
    sub,
    sum,
    tanh,
    transpose,
    where,
)
from .fused import norm_fire
from .if_ import if_
from .lif import lif, neuron
from .linear import linear
from .loss import cross_entropy, mse_loss, one_hot
from .plif import plif
from .pool import adaptive_avg_pool2d, avg_pool2d, global_avg_pool2d, max_pool2d, sum_pool2d
from .recurrent import recurrent
from .residual import join
from .synaptic import synaptic

__all__ = [
    "attention",
    "batch_norm",
    "conv2d",
    "lif",
    "if_",
    "plif",
    "alif",
    "synaptic",
    "neuron",
    "norm_fire",
    "linear",
    "recurrent",
    "cross_entropy",
    "mse_loss",
    "one_hot",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "sum_pool2d",
    "max_pool2d",
    "join",
    "abs",
    "add",
    "concatenate",
    "div",
    "exp",
    "index",
    "log",
    "matmul",
    "max",
    "mean",
    "min",
    "mul",
    "neg",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "sqrt",
    "stack",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "where",
]
