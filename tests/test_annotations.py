"""All examples of the docstrings under a runtime type checker."""

import subprocess
import sys

import pytest

PROGRAM = """
import doctest, importlib, pkgutil, sys
from jaxtyping import install_import_hook

with install_import_hook("gru_jax", "beartype.beartype"):
    import gru_jax
    names = [m.name for m in pkgutil.walk_packages(gru_jax.__path__, "gru_jax.")]
    modules = [importlib.import_module(name) for name in ("gru_jax", *names)]
tried = failed = 0
for module in modules:
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__):
        if test.examples:
            result = doctest.DocTestRunner().run(test)
            tried, failed = tried + result.attempted, failed + result.failed
print(tried)
sys.exit(failed > 0)
"""


def test_docstring_examples_match_annotations():
    pytest.importorskip("jaxtyping")
    pytest.importorskip("beartype")
    pytest.importorskip("flax")
    pytest.importorskip("onnx")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1]) > 80
