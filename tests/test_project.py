"""The project's own promises: sizes, links, result files, versions, nothing private."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote

import pytest

import attar

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] + [
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))
]
FOLDERS = ("src", "tests", "docs", "results", "benchmarks", "examples", ".ci")

DISTRIBUTIONS = metadata.packages_distributions()  # by the name of a module
RESULT_KEYS = {"experiment", "rows", "config", "machine"}
ROW_KEYS = {"name", "metric", "paper", "mean", "sd", "seeds"}

# In pieces, so that this file doesn't contain what it looks for.
PRIVATE = ["/" + "work/", "/" + "root/", "../" + "shared", "pypi" + ".org"]


def links(markdown: str) -> list[str]:
    """Targets of links and images outside code."""
    prose = re.sub(r"^\s*(```|~~~).*?^\s*\1", "", markdown, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)", prose)
    named = re.findall(r"^\[[^\]^][^\]]*\]:\s*(\S+)", prose, flags=re.MULTILINE)
    html = re.findall(r"\b(?:src|href)=\"([^\"]+)\"", prose)
    return inline + named + html


def broken_links(document: Path) -> list[str]:
    targets = [
        target
        for target in links(document.read_text(encoding="utf-8"))
        if not re.match(r"[a-z][a-z+.-]*:|#", target, flags=re.IGNORECASE)
    ]
    return [
        target
        for target in targets
        if not (document.parent / unquote(target.partition("#")[0])).exists()
    ]


def faults_of_result(result: object) -> list[str]:
    if not isinstance(result, dict):
        return ["is no JSON object"]
    faults = [f"lacks {key}" for key in sorted(RESULT_KEYS - result.keys())]
    rows = result.get("rows", [])
    if not rows:
        faults.append("has no rows")
    for number, row in enumerate(rows):
        faults += [f"row {number} lacks {key}" for key in sorted(ROW_KEYS - row.keys())]
    return faults


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def imported_packages(source: str) -> set[str]:
    """Distributions that a module imports from, other than Python itself and attar."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.partition(".")[0])
    modules -= sys.stdlib_module_names | {"attar"}
    return {DISTRIBUTIONS.get(module, [module])[0].lower().replace("_", "-") for module in modules}


def private_words(text: str) -> list[str]:
    return [word for word in PRIVATE if word in text]


def project_texts() -> dict[str, str]:
    """What is committed and is text, by path."""
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    paths += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {}
    for path in paths:
        if "__pycache__" in path.parts:
            continue
        try:
            texts[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # images, compressed data
    return texts


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document):
    assert broken_links(ROOT / document) == []


def test_a_broken_link_is_found(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(
        "[here](page.md#top) [gone](gone.md) ![image](gone.png) [out](https://example.com/a)\n"
        "[top](#top) `[code](code.md)`\n\n```\n[code](fenced.md)\n```\n\n[named]: gone-too.md\n",
        encoding="utf-8",
    )
    assert broken_links(document) == ["gone.md", "gone.png", "gone-too.md"]


def test_results_are_complete():
    faults = {
        path.name: faults_of_result(json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((ROOT / "results").glob("*.json"))
    }
    assert {name: found for name, found in faults.items() if found} == {}


def test_an_incomplete_result_is_found():
    row = {"name": "teacher", "metric": "test errors", "paper": 67, "mean": 70.0, "seeds": 3}
    result = {"experiment": "mnist", "rows": [row], "config": {}}
    assert faults_of_result(result) == ["lacks machine", "row 0 lacks sd"]
    assert "has no rows" in faults_of_result({**result, "rows": []})


def readme_tables() -> dict[str, list[list[str]]]:
    """The tables of README between comments, by what the comment says: rows of cells."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = {}
    for name, body in re.findall(r"<!-- (results\S*) -->\n(.*?)<!-- end -->", text, flags=re.S):
        lines = [line for line in body.splitlines() if line.startswith("|")][2:]
        tables[name] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return tables


def read_rows(name: str) -> dict[str, dict[str, object]]:
    rows = json.loads((ROOT / name).read_text(encoding="utf-8"))["rows"]
    return {f"{row['name']}: {row['metric']}": row for row in rows}


def write_row(row: dict[str, object]) -> tuple[str, str]:
    """The paper's number and ours, as README writes them."""
    digits = 3 if row["mean"] <= 1 else 1
    spread = "" if row["sd"] is None else f" ± {row['sd']:.{digits}f}"
    paper = "" if row["paper"] is None else f"{row['paper']:g}"
    return paper, f"{row['mean']:.{digits}f}{spread}"


def test_each_number_in_the_readmes_tables_is_that_of_its_row():
    tables = readme_tables()
    assert set(tables) == {"results/mnist.json", "results"}
    mnist = read_rows("results/mnist.json")
    assert len(tables["results/mnist.json"]) == len(mnist)
    for name, *cells in tables["results/mnist.json"]:
        assert tuple(cells) == write_row(mnist[f"{name}: test errors"])
    for _, name, *cells, file in tables["results"]:
        path = re.search(r"\((results/\S+\.json)\)", file)[1]
        assert tuple(cells) == write_row(read_rows(path)[name])


def test_versions_agree():
    assert attar.__version__ == PROJECT["version"]
    assert metadata.version("attar") == PROJECT["version"]


def test_extras_are_the_documented_ones():
    extras = {
        "dev",
        "speech",
        "export",
        "ray",
        "datasets",
        "transformers",
        "tensorboard",
        "examples",
        "timm",
        "vision",
    }
    assert set(PROJECT["optional-dependencies"]) == extras


def test_extras_stay_out_of_the_core():
    extra = {name for extra in PROJECT["optional-dependencies"].values() for name in names(extra)}
    assert names(PROJECT["dependencies"]) & extra == set()


def test_imported_packages_are_declared():  # what only comes along with another may stop coming
    extras = PROJECT["optional-dependencies"]
    declared = names(PROJECT["dependencies"])
    declared |= {name for extra in extras.keys() - {"dev"} for name in names(extras[extra])}
    undeclared = {
        path.relative_to(ROOT).as_posix(): found - declared
        for path in (ROOT / "src").rglob("*.py")
        if (found := imported_packages(path.read_text(encoding="utf-8"))) - declared
    }
    assert undeclared == {}


def test_an_imported_package_is_found():
    assert imported_packages("import os, torch.nn\nif x:\n    from click import y") == {
        "torch",
        "click",
    }


def test_importing_attar_does_not_import_what_few_calls_need():
    """They take a second each, and would delay every command."""
    late = ("scipy.stats", "matplotlib", "sklearn", "onnxruntime", "transformers", "ray")
    late += ("jiwer", "kaldi_decoder", "kaldi_native_fbank", "kaldifst", "kaldilm", "soundfile")
    code = f"import sys, attar.cli; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constraints_pin_the_core_and_dev():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert names(wanted) - pins.keys() == set()
    assert [version for version in pins.values() if "+" in version] == []  # local builds


def test_nothing_private_is_published():
    found = {path: private_words(text) for path, text in project_texts().items()}
    assert len(found) > 10
    assert {path: words for path, words in found.items() if words} == {}


def test_a_private_path_is_found():
    assert private_words("saved in " + "/" + "work/here") == ["/" + "work/"]
