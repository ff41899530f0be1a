"""Solutions to tutorial 8; each wrong_... is a mistake that is easy to make, and that the check rejects."""


def or3_gradients(x, y, z, d):
    # 1 - (1 - x)(1 - y)(1 - z): a branch matters where both others are silent
    return d * (1 - y) * (1 - z), d * (1 - x) * (1 - z), d * (1 - x) * (1 - y)


def wrong_or3_gradients(x, y, z, d):
    return d * (1 - y - z), d * (1 - x - z), d * (1 - x - y)  # negative where both others fired


def polynomial(g00, g01, g10, g11):
    return g00, g10 - g00, g01 - g00, g11 - g10 - g01 + g00  # XOR: x + y - 2 x y, with dx = d (1 - 2 y)


def wrong_polynomial(g00, g01, g10, g11):
    return g00, g10 - g00, g01 - g00, g11 - g00  # forgets that b x + c y already counts at x = y = 1
