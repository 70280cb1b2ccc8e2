"""What an import of mechinterp costs and what it brings along."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import mechinterp

FOLDER = Path(mechinterp.__file__).parent
MODULES = sorted(f"mechinterp.{file.stem}" for file in FOLDER.glob("*.py") if file.stem != "__init__")
STUB = ast.parse((FOLDER / "__init__.pyi").read_text())


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running this code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_cheap():
    """`import mechinterp`, and what reports need of it, load no torch."""
    loaded = loaded_after("import mechinterp, mechinterp.evidence, mechinterp.errors; mechinterp.verdict_of")
    assert not loaded & {"torch", "transformers", "scipy", "sklearn"}


def test_layers_never_reach_back():
    """No module of mechinterp loads pytest or a layer above it."""
    loaded = loaded_after("\n".join(f"import {module}" for module in MODULES))
    assert not loaded & {"pytest", "_pytest", "claims", "fixtures", "reports", "tests", "conftest"}
    assert {"torch", "mechinterp"} <= loaded


def test_imports_are_of_these_alone():
    """Every import in the source is of the standard library, of mechinterp itself or of a library it depends on."""
    ours = {"torch", "transformers", "safetensors", "numpy", "scipy", "sklearn", "tqdm", "psutil", "lazy_loader"}
    allowed = {*ours, "mechinterp"}
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                top = name.partition(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_public_names_resolve():
    """Every public name is imported by the stub, listed once, in order, and there to be had."""
    imported = {alias.name for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    (listed,) = (ast.literal_eval(node.value) for node in STUB.body if isinstance(node, ast.Assign))
    assert listed == sorted(imported, key=lambda name: (name[0].islower(), name))
    assert set(mechinterp.__all__) == imported
    for node in STUB.body:
        if isinstance(node, ast.ImportFrom):
            module = import_module(f"mechinterp.{node.module}")
            for alias in node.names:
                assert getattr(mechinterp, alias.name) is getattr(module, alias.name)
