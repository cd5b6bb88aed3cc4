"""Mend a module of another package when it is imported, and not before."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class MendingFinder(MetaPathFinder):
    """Finds one module as usual, and mends it on import.

    Args:
        name: Of the module.
        mend: What is called with it when it has been executed.
    """

    def __init__(self, name: str, mend: Callable[[ModuleType], None]) -> None:
        self.name = name
        self._mend = mend

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find the module with a loader that mends it; nothing else."""
        if fullname != self.name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_mend(module: ModuleType) -> None:
            execute(module)
            self._mend(module)

        spec.loader.exec_module = execute_and_mend
        return spec


def mend_on_import(name: str, mend: Callable[[ModuleType], None]) -> None:
    """Mend a module now if it is there, else as soon as it is imported.

    Args:
        name: Of the module.
        mend: Mends it, in place; it may be called twice.
    """
    if name in sys.modules:
        mend(sys.modules[name])
    elif not any(
        isinstance(finder, MendingFinder) and finder.name == name
        for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, MendingFinder(name, mend))
