"""A fingerprint of the code behind `file.py:name`: the definitions that the name uses.

Comments, layout and unused definitions are not hashed, so a new student does not change the
fingerprint of a teacher in the same file. Files imported from the job's folder, or from the folder
of the file, are treated in the same way; installed packages are not hashed. Code that is looked up
by a string, as with `getattr`, and files that the code reads are not tracked.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from attar.errors import ObjectError, file_error
from attar.files import sha256

_ALL = "*"


def fingerprint_code(spec: str, folder: Path) -> str:
    """Hash the code that `spec` names, `file.py:name` or `package.module:name`.

    Raises:
        ObjectError: If a file cannot be read, or is not Python.
    """
    place, _, name = spec.rpartition(":")
    reader = _Reader(folder)
    file = folder / place if place.endswith(".py") else reader.find(place, folder)
    if file is not None:
        reader.follow(file, name.partition(".")[0])
    return sha256("\n".join([spec, *sorted(reader.parts)]).encode())


class _Reader:
    """Collects the statements that a name uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: set[str] = set()
        self._seen: set[tuple[Path, str]] = set()
        self._files: dict[Path, dict[str, list[ast.AST]]] = {}

    def follow(self, file: Path, name: str) -> None:
        """Collect the definition of a name in a file, and recursively everything that it uses.

        The name `*` means all definitions. Statements that define no name are always collected.
        """
        if (file, name) in self._seen:
            return
        self._seen.add((file, name))
        definitions = self._read(file)
        names = list(definitions) if name == _ALL else [name, ""]
        if name not in definitions and name != _ALL:
            names.append(_ALL)  # it may come with `from ... import *`
        for each in names:
            for node in definitions.get(each, []):
                self._take(file, node)

    def find(self, place: str, *folders: Path) -> Path | None:
        """Find the user's file of a module; None if it is in none of the folders."""
        for folder in folders:
            base = folder.joinpath(*place.split(".")) if place else folder
            for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
                if file.is_file():
                    return file
        return None

    def _take(self, file: Path, node: ast.AST) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._follow_import(file, node)
            return
        self.parts.add(f"{file.name}: {ast.dump(node)}")
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                self.follow(file, inner.id)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                self._follow_import(file, inner)

    def _follow_import(self, file: Path, node: ast.Import | ast.ImportFrom) -> None:
        folders = [self.folder, file.parent]
        if isinstance(node, ast.ImportFrom):
            place = node.module or ""
            if node.level:
                folders = [file.parents[node.level - 1]]
            origin = self.find(place, *folders)
            for alias in node.names:
                part = self.find(f"{place}.{alias.name}".lstrip("."), *folders)
                if part is not None:
                    self.follow(part, _ALL)
                elif origin is not None:
                    self.follow(origin, alias.name)
                else:
                    self.parts.add(f"from {place} import {alias.name}")
            return
        for alias in node.names:
            origin = self.find(alias.name, *folders)
            if origin is None:
                self.parts.add(f"import {alias.name}")
            else:
                self.follow(origin, _ALL)

    def _read(self, file: Path) -> dict[str, list[ast.AST]]:
        file = file.resolve()
        if file not in self._files:
            try:
                tree = ast.parse(file.read_bytes(), str(file))
            except OSError as error:
                raise ObjectError(str(file_error("read", file, error))) from error
            except (SyntaxError, ValueError) as error:
                raise ObjectError(f"{file} is no Python: {error}") from error
            definitions = defaultdict(list)
            for name, node in _definitions(tree):
                definitions[name].append(node)
            self._files[file] = dict(definitions)
        return self._files[file]


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield each statement under the names that it defines; under "" if it defines none."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                single = type(node)(**dict(ast.iter_fields(node)) | {"names": [alias]})
                yield (alias.asname or alias.name).partition(".")[0], single
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            continue  # not when it is imported
        names = set(_names(node))
        for name in names or {""}:
            yield name, node


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in ast.walk(node):  # of `if`, `try`, `with` and `for` all that they may define
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.alias):
            yield (inner.asname or inner.name).partition(".")[0]
