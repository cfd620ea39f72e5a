"""The rooms of the package and the arrows between them, as docs/design.md draws them."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "biasaudio"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE.parent)) for path in FILES]

FIRST = {"errors", "_files", "_linalg", "_parallel", "_text", "_validation"}
# Room: the rooms that it may import at the top of a module.  Every room may import itself.
ARROWS: dict[str, set[str]] = {
    "biasaudio": set(),
    "errors": set(),
    "_validation": {"errors", "_text"},
    "_linalg": set(),
    "_files": {"errors"},
    "_text": set(),
    "_parallel": {"errors", "_text", "_validation"},
    "datasets": FIRST,
    "store": FIRST | {"datasets"},
    "embed": FIRST | {"datasets", "store"},
    "moments": FIRST,
    "probes": FIRST | {"moments"},
    "transforms": FIRST | {"moments", "probes"},
    "transfer": FIRST | {"moments", "probes", "transforms"},
    "transfer.published": FIRST,
    "results": FIRST,
    "report": FIRST - {"_parallel"},
    "_audit": FIRST
    | {"datasets", "store", "embed", "moments", "probes", "transforms", "transfer", "results"}
    | {"transfer.published"},
    "cli": {"errors", "_text"},
    "__main__": {"cli"},
}
# What is imported inside functions only, so that nothing is loaded before it is used.
INSIDE: dict[str, set[str]] = {
    # A correction may be given by its name.
    "probes": {"transforms"},
    "results": {"report"},
    "cli": set(ARROWS) - {"__main__", "report"},
}
# Packages that would weigh on somebody who wants a correction only, and who may have them.
HEAVY = {"pandas", "h5py", "librosa", "matplotlib", "seaborn"}
PACKAGES: dict[str, set[str]] = {
    "_files": {"pandas"},
    "_text": {"pandas"},
    "datasets": {"pandas"},
    "store": {"pandas", "h5py"},
    "embed": {"librosa", "pandas"},
    "transfer.published": {"pandas"},
    "results": {"pandas"},
    "report": {"pandas", "matplotlib", "seaborn"},
    "_audit": {"pandas"},
}
# A test below loads probes and transfer without pandas.
PACKAGES_INSIDE: dict[str, set[str]] = {
    "cli": {"pandas"},
    "probes": {"pandas"},
    "transfer": {"pandas"},
}


def room_of(module: str) -> str:
    """Return the room of a dotted module name."""
    parts = module.split(".")
    if parts[:3] == ["biasaudio", "transfer", "published"]:
        return "transfer.published"
    return parts[1] if len(parts) > 1 else "biasaudio"


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str) -> list[tuple[str, int, bool]]:
    """Return (dotted name, line, whether inside a function) of every import.

    ``from biasaudio import x`` may import the room x, and counts as such.
    """
    tree = ast.parse(source)
    # What is there for type checkers only is never imported.
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
    ]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, functions) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            rooms = {room.split(".")[0] for room in ARROWS}
            names = [
                f"{origin}.{a.name}" if origin == "biasaudio" and a.name in rooms else origin
                for a in node.names
            ]
        found += [(name, node.lineno, id(node) in inside) for name in names]
    return found


def forbidden(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return every arrow of a module that the tables do not allow, in words."""
    room = room_of(module)
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for name, line, is_inside in imports(source, package):
        top = name.split(".")[0]
        if top == "biasaudio":
            target = room_of(name)
            allowed = ARROWS[room] | (INSIDE.get(room, set()) if is_inside else set()) | {room}
            is_wrong = target not in allowed
        else:
            target = top
            allowed = PACKAGES.get(room, set())
            allowed = allowed | (PACKAGES_INSIDE.get(room, set()) if is_inside else set())
            is_wrong = top in HEAVY - allowed
        if is_wrong:
            where = "in a function" if is_inside else "at the top"
            found.append(f"line {line}: {room} imports {target} {where}")
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_arrow_is_allowed(path):
    found = forbidden(
        path.read_text(encoding="utf-8"), module_of(path), is_package=path.stem == "__init__"
    )
    assert not found


def test_every_room_is_in_the_table():
    assert {room_of(module_of(path)) for path in FILES} == set(ARROWS)


@pytest.mark.parametrize(
    ("module", "source", "arrow"),
    [
        ("biasaudio.moments", "import pandas as pd", "moments imports pandas at the top"),
        ("biasaudio.moments", "def f():\n    import h5py", "moments imports h5py in a function"),
        ("biasaudio.probes.ridge", "from biasaudio.transfer import Task", "imports transfer"),
        ("biasaudio.probes.ridge", "from biasaudio.datasets import ClipTable", "imports datasets"),
        ("biasaudio.probes.ridge", "from ..transforms import LEACE", "imports transforms"),
        ("biasaudio.transforms.x", "from biasaudio import transfer", "imports transfer"),
        ("biasaudio.transforms.x", "import biasaudio", "imports biasaudio"),
        ("biasaudio.transfer.task", "from . import published", ""),
        ("biasaudio.transfer.task", "from .published import MODES", "imports transfer.published"),
        ("biasaudio.datasets.irmas", "import biasaudio.store.reader", "imports store"),
        ("biasaudio.errors", "from biasaudio._validation import name_some", "imports _validation"),
        ("biasaudio.report.html", "from biasaudio.results import TABLES", "imports results"),
        ("biasaudio.report.html", "def f():\n  import biasaudio._audit", "imports _audit in a fu"),
        ("biasaudio.results", "from biasaudio.report import summary", "imports report at the top"),
        ("biasaudio.results", "def f():\n    from biasaudio.report import summary", ""),
        ("biasaudio.cli.audit", "from biasaudio.store import EmbeddingStore", "imports store at"),
        ("biasaudio.cli.audit", "def f():\n    from biasaudio.store import EmbeddingStore", ""),
        ("biasaudio.cli.audit", "import pandas", "cli imports pandas at the top"),
        ("biasaudio.store.reader", "if True:\n    import librosa", "store imports librosa"),
        ("biasaudio.transfer.task", "from biasaudio.probes.ridge import RidgeProbe", ""),
    ],
)
def test_a_forbidden_arrow_is_caught_and_an_allowed_one_is_not(module, source, arrow):
    found = forbidden(source, module)
    if not arrow:
        assert found == []
    else:
        assert len(found) == 1
        assert arrow in found[0]


def test_the_table_has_no_way_round():
    # Repeatedly take out rooms that import nothing that is left: a circle would stay.
    left = {room: targets - {room} for room, targets in ARROWS.items()}
    while left:
        free = {room for room, targets in left.items() if not targets & set(left)}
        assert free, f"a circle among {sorted(left)}"
        left = {room: targets for room, targets in left.items() if room not in free}


def loaded_by(statement: str, names: set[str]) -> set[str]:
    """Return which of these packages a fresh interpreter loads for a statement."""
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & {names!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import biasaudio", HEAVY | {"numpy", "scipy", "sklearn", "joblib"})
    assert loaded_by("import biasaudio; biasaudio.ClipTable", {"pandas"}) == {"pandas"}


@pytest.mark.parametrize("room", ["transforms", "probes", "moments", "transfer"])
def test_rooms_of_arrays_load_where_no_heavy_package_is_installed(room):
    # scikit-learn takes pandas along where it is there, so it is made to be absent.
    absent = f"import sys; sys.modules |= dict.fromkeys({sorted(HEAVY)})"
    assert loaded_by(f"{absent}; import biasaudio.{room}", {"numpy"}) == {"numpy"}
    assert not loaded_by(f"import biasaudio.{room}", HEAVY - {"pandas"})


def test_importing_the_package_takes_less_than_a_tenth_of_a_second():
    code = "import time; t = time.perf_counter(); import biasaudio; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.1


def lapses(source: str) -> list[str]:
    """What the package does without everywhere, in words."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert vanishes under -O; raise an error")
        if isinstance(node, ast.ExceptHandler):
            caught = getattr(node.type, "id", "everything" if node.type is None else "")
            is_broad = caught in ("everything", "Exception", "BaseException")
            head = source.splitlines()[node.lineno - 2 : node.body[0].lineno]
            # Whatever went wrong may be cleaned up after, or be kept for later with a reason.
            is_meant = any("#" in line for line in head) or any(
                isinstance(inner, ast.Raise) or getattr(inner, "id", "") == node.name
                for inner in ast.walk(node)
            )
            if is_broad and not is_meant:
                found.append(f"line {node.lineno}: except {caught} hides bugs; name the errors")
    return found


def prints(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_file_is_without_lapses(path):
    source = path.read_text(encoding="utf-8")
    assert not lapses(source)
    if room_of(module_of(path)) not in ("cli", "__main__"):
        assert not prints(source)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_says_what_is_public(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "no docstring"
    bound: dict[str, ast.AST] = {}
    for node in tree.body:
        targets = [node]
        if isinstance(node, ast.Assign):
            targets = [e for t in node.targets for e in getattr(t, "elts", [t])]
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            targets = node.names
        for target in targets:
            name = getattr(target, "asname", None) or getattr(
                target, "id", getattr(target, "name", "")
            )
            bound[name] = node
    if "__all__" not in bound:
        # A command of one line, a stub that is attached, or nothing at all.
        assert len(tree.body) <= 6
        return
    names = getattr(bound["__all__"].value, "elts", [])
    if "__getattr__" not in bound:
        assert {ast.literal_eval(name) for name in names} <= set(bound)


def test_the_style_checks_can_fail():
    assert len(lapses("assert x\ntry:\n    f()\nexcept Exception:\n    pass\n")) == 2
    assert len(lapses("try:\n    f()\nexcept:\n    pass\n")) == 1
    assert lapses("try:\n    f()\nexcept (ValueError, OSError):\n    pass\n") == []
    assert lapses("try:\n    f()\nexcept BaseException:\n    g()\n    raise\n") == []
    assert lapses("try:\n    f()\nexcept Exception:\n    # Why.\n    pass\n") == []
    assert prints("print(1)") == [1]


# What a package is called on PyPI, where it is imported by another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "ai_edge_litert": "ai-edge-litert"}


def declared() -> tuple[set[str], set[str]]:
    """Packages that setup.cfg always installs, and those of its extras."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")

    def names(text: str) -> set[str]:
        lines = [line for line in text.splitlines() if line.strip()]
        return {re.split(r"[ <>=\[;]", line, maxsplit=1)[0].lower() for line in lines}

    extras = config["options.extras_require"]
    return names(config["options"]["install_requires"]), set().union(*map(names, extras.values()))


def test_what_is_imported_is_declared():
    always, extra = declared()
    own = {"biasaudio", *sys.stdlib_module_names}
    # Models of the user's choice: what they need stands in the README's table.
    models = {"openl3", "torchopenl3", "torchvggish"}
    # For annotations only; no program imports it.
    typing_only = {"typing_extensions"}
    for path in FILES:
        package = module_of(path).rpartition(".")[0]
        for name, line, is_inside in imports(path.read_text(encoding="utf-8"), package):
            top = name.split(".")[0]
            if top in own | models | typing_only:
                continue
            allowed = always | (extra if is_inside else set())
            assert DISTRIBUTIONS.get(top, top) in allowed, f"{path.name}, line {line}: {top}"


def test_what_is_declared_is_imported():
    always, _ = declared()
    found = {
        name.split(".")[0]
        for path in FILES
        for name, *_ in imports(path.read_text(encoding="utf-8"), "biasaudio")
    }
    assert always <= {DISTRIBUTIONS.get(name, name) for name in found} | {"filelock"}
