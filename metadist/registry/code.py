"""The code that travels with a model: what serving needs of metadist, as a package named by its hash.

Two versions of a model loaded in one process would otherwise both run the code of whichever came first, since
Python keeps one module a name.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from metadist.version import __version__

ROOT = "metadist.answers.request"
STAYS = frozenset({"metadist.serving.fetch"})  # asks a registry: a served model already has its bundle
_IMPORT = re.compile(r"^(\s*from )metadist(?=[. ])")

_INIT = '''"""metadist {version}, as much of it as serving needs."""

from {name}.numerics import prepare_environment

prepare_environment()  # must come before torch is imported anywhere in this process

__version__ = "{version}"
'''


_MODEL = '''"""A metadist model: adapts when it is asked."""

import warnings

with warnings.catch_warnings(record=True):  # MLflow advises type hints; the signature says more than they can
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import PythonModel

    class AdaptingModel(PythonModel):
        """predict({{"support_x", "support_y", "query_x"}}, params={{"inner_steps": K}}): one task a call."""

        def load_context(self, context):
            # Imported here: the package lies beside this file only once the model is whole.
            from {package}.adapter import load_adapter
            from {package}.errors import MetadistError
            from {package}.answers.request import answer

            self._adapter = load_adapter(context.artifacts["bundle"])
            self._answer, self._refusal = answer, MetadistError

        def predict(self, context, model_input, params=None):
            try:
                return self._answer(self._adapter, model_input, params)
            except self._refusal as error:
                raise MlflowException.invalid_parameter_value(str(error)) from None


mlflow.models.set_model(AdaptingModel())
'''


@dataclass(frozen=True, slots=True)
class ServedCode:
    """Modules by name, and the hash of their sources."""

    modules: dict[str, str]
    digest: str

    @property
    def package(self) -> str:
        return f"metadist_{self.digest[:8]}"

    @property
    def entry(self) -> str:
        """The file that MLflow runs to make the model (models-from-code)."""
        return _MODEL.format(package=self.package)

    def write(self, folder: Path) -> Path:
        """Write the package into ``folder`` and return its own folder."""
        root = folder / self.package
        packages = {name.rpartition(".")[0] for name in self.modules} | {"metadist"}
        for package in packages:
            _write(_path(root, package) / "__init__.py", '"""Part of a served model."""\n')
        for name, source in self.modules.items():
            is_package = name in packages
            path = _path(root, name) / "__init__.py" if is_package else _path(root, name).with_suffix(".py")
            _write(path, _renamed(source, self.package))
        _write(root / "__init__.py", _INIT.format(name=self.package, version=__version__))
        return root


@cache
def served_code() -> ServedCode:
    """The modules that `ROOT` reaches by its imports. A package's own module is among them only where a name is
    imported from it, so that ``sources.transforms`` does not bring Parquet along."""
    modules: dict[str, str] = {}
    waiting = [ROOT, "metadist.numerics"]
    while waiting:
        name = waiting.pop()
        if name in modules or name in STAYS or name == "metadist":
            continue
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        modules[name] = Path(spec.origin).read_text()
        waiting += _imports(modules[name])
    modules = dict(sorted(modules.items()))
    text = "".join(f"{name}\n{len(source)}\n{source}" for name, source in modules.items())
    return ServedCode(modules, hashlib.sha256(f"{__version__}\n{_MODEL}\n{text}".encode()).hexdigest())


def _imports(source: str) -> Iterator[str]:
    """Modules of metadist that a source imports from, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = importlib.util.find_spec(node.module or "") is not None and _is_module(inner)
                yield inner if is_module else node.module or ""


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def _ours(module: str | None) -> bool:
    return module is not None and (module == "metadist" or module.startswith("metadist."))


def _renamed(source: str, package: str) -> str:
    """The source with its imports of metadist pointing at ``package``; nothing else is touched."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and _ours(node.module):
            lines[node.lineno - 1] = _IMPORT.sub(rf"\g<1>{package}", lines[node.lineno - 1])
    return "".join(lines)


def _path(root: Path, module: str) -> Path:
    return root.joinpath(*module.split(".")[1:])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
