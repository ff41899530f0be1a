"""What all tests share: initial weights that do not depend on the tests before; on a first start, a second process compiles
beside them.
"""

import os

import compile_beside
import pytest

import minisnn
from minisnn.jit import LOOPS

MANY = 500  # tests, from which on it pays


@pytest.fixture(scope="session", autouse=True)
def compiled_beside(request):
    if not LOOPS or len(request.session.items) < MANY or os.cpu_count() == 1:
        yield
        return
    process = compile_beside.begin()
    yield
    process.kill()
    process.communicate()


@pytest.fixture(autouse=True)
def seeded():
    minisnn.manual_seed(0)
