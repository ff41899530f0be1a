"""Solutions to tutorial 12; each wrong_... is a mistake that is easy to make, and that the check rejects."""


def can_go(join, train_rates, test_rates):
    if join not in ("or", "add"):  # the others have no neutral input
        return []
    return [k for k in sorted(train_rates) if train_rates[k] == 0 == test_rates[k]]


def wrong_can_go(join, train_rates, test_rates):
    return [k for k in sorted(train_rates) if train_rates[k] == 0]  # silent so far is not silent


def wrong_can_go_2(join, train_rates, test_rates):
    if join not in ("or", "add"):
        return []
    return [k for k in sorted(train_rates) if train_rates[k] + test_rates[k] < 1e-4]  # nearly silent is not silent


def wrong_can_go_3(join, train_rates, test_rates):
    return [k for k in sorted(train_rates) if train_rates[k] == 0 == test_rates[k]]  # AND and IAND need the shortcut


def shortcut_parameters(k, width):
    cin, cout = width * 2 ** (k - 1), width * 2**k
    return cin * cout + 2 * cout + 2 * 8 * cout  # convolution without bias; weight and bias; squeeze and excite


def wrong_shortcut_parameters(k, width):
    cin, cout = width * 2 ** (k - 1), width * 2**k
    return cin * cout + 2 * cout + 8 * cout  # two layers of attention, not one
