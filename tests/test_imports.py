"""The structure of the code: one direction of imports, short argument lists, short files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "gru_jax"
SOURCES = sorted([*LIBRARY.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])
# From bottom to top; a module imports from its own layer or those before, without a cycle.
LAYERS = [
    {"_checks"},
    {"_ops", "_trace"},
    {"_initializers", "_state"},
    {"_masks", "_scan"},
    {"cells"},
    {"_readout", "_generate", "_chunked_loss", "recurrence"},
    {"stack"},
    {"convert", "flax", "_serialization"},
    {"__init__"},
]
LONGER = {"gru_jax/recurrence/gru.py"}  # the equations of the derivative and gru_unroll's arguments


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in LIBRARY.rglob("*.py")}


def imports_of(name):
    """The modules of the library that a module imports, in functions and type checks too."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            for each in node.names:
                found.add(f"{source}.{each.name}" if f"{source}.{each.name}" in MODULES else source)
    return found & set(MODULES) - {name}


def layer_of(name):
    part = [*name.split("."), "__init__"][1]
    (layer,) = [i for i, names in enumerate(LAYERS) if part in names]
    return layer


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name):
    above = {other for other in imports_of(name) if layer_of(other) > layer_of(name)}
    assert not above


def test_imports_have_no_cycle():
    left = {name: imports_of(name) for name in MODULES}
    while left:
        leaves = [name for name, imported in left.items() if not imported & set(left)]
        assert leaves, f"a cycle among {sorted(left)}"
        for name in leaves:
            del left[name]


def test_only_one_module_knows_platforms():
    """Kernels are entries of its table; nobody else asks for a platform."""
    asking = {
        str(path.relative_to(LIBRARY))
        for path in LIBRARY.rglob("*.py")
        if any(
            word in path.read_text(encoding="utf-8")
            for word in ("platform_dependent", "default_backend", "lowering_platforms")
        )
    }
    assert asking == {"recurrence/platforms.py"}


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_arguments_are_few_and_no_flag_is_positional(path):
    """At most six positional arguments, in calls and definitions; no positional True or False."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and len(node.args.posonlyargs + node.args.args) > 6:
            found.append(f"line {node.lineno}: def {node.name}")
        if isinstance(node, ast.Call):
            # dict.get(key, False) and x.at[i].set(False) take a value, not a flag
            takes_value = isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "set")
            flags = [isinstance(getattr(each, "value", None), bool) for each in node.args]
            if len(node.args) > 6 or (any(flags) and not takes_value):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_files_are_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 250 or ids(path) in LONGER


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=ids)
def test_test_files_are_short(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 300
