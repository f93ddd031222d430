"""Trees on disk, as JSON with a checksum, and on paper."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.errors import DataError, file_error
from attar.files import sha256, write_atomically
from attar.speech.hmm import POSITIONS
from attar.speech.tree import Leaf, Node, Question, Tree

FORMAT = "attar phonetic tree 1"


def tree_checksum(tree: Tree) -> str:
    """Return the SHA-256 of a tree: what an alignment or a network remembers it by."""
    return sha256(json.dumps(_encode(tree), sort_keys=True).encode())


def write_tree(tree: Tree, path: Path) -> None:
    """Write a tree as JSON.

    Raises:
        FolderError: If the file cannot be written.
    """
    content = {"format": FORMAT, "sha256": tree_checksum(tree), **_encode(tree)}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read_tree(path: Path) -> Tree:
    """Read a tree that `write_tree` wrote.

    Raises:
        DataError: If it is none, or is damaged.
        FolderError: If the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"]
        if found != FORMAT:
            raise DataError(f"expected {FORMAT!r} in {path}, got {found!r}")
        tree = Tree(
            tuple(content["phones"]),
            tuple(tuple(map(_decode, positions)) for positions in content["roots"]),
        )
        if tree_checksum(tree) != content["sha256"]:
            raise DataError(f"{path} is not as it was written; make it again")
    except OSError as error:
        raise file_error("read the tree", path, error) from error
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"expected a tree in {path}, got something else ({error!r})") from error
    return tree


def describe_tree(tree: Tree) -> Iterator[str]:
    """Print a tree: one line a question or leaf, by phone and position."""
    yield f"{len(tree.phones)} phones, {tree.states} tied states"
    for phone, positions in zip(tree.phones, tree.roots, strict=True):
        for position, root in enumerate(positions):
            yield f"{phone} {position + 1} of {POSITIONS}"
            yield from _describe(root, tree, "  ")


def _describe(node: Node, tree: Tree, indent: str, answer: str = "") -> Iterator[str]:
    if isinstance(node, Leaf):
        yield f"{indent}{answer}state {node.state}"
        return
    names = " ".join(tree.phones[phone] for phone in node.phones)
    about = node.name if names == node.name else f"{node.name} ({names})"
    yield f"{indent}{answer}{node.side}: {about}?"
    yield from _describe(node.yes, tree, indent + "  ", "yes: ")
    yield from _describe(node.no, tree, indent + "  ", "no: ")


def _encode(tree: Tree) -> dict[str, Any]:
    roots = [[_encode_node(root) for root in positions] for positions in tree.roots]
    return {"phones": list(tree.phones), "roots": roots}


def _encode_node(node: Node) -> dict[str, Any]:
    if isinstance(node, Leaf):
        return {"state": node.state}
    return {
        "side": node.side,
        "class": node.name,
        "phones": list(node.phones),
        "yes": _encode_node(node.yes),
        "no": _encode_node(node.no),
    }


def _decode(node: dict[str, Any]) -> Node:
    if "state" in node:
        return Leaf(node["state"])
    yes, no = _decode(node["yes"]), _decode(node["no"])
    return Question(node["side"], node["class"], tuple(node["phones"]), yes, no)
