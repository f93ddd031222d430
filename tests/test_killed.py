"""SIGKILL at random moments, in short: labeling and distilling end with the same bytes.

The long form is `python benchmarks/crash.py`; its last result lies beside it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).parents[1] / "benchmarks" / "crash.py"
KILLS = 5


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_store_and_student_are_the_same(tmp_path):
    numbers = ["--labeling", str(KILLS), "--distilling", str(KILLS)]
    done = subprocess.run(
        [sys.executable, CRASH, *numbers, "--folder", tmp_path, "--out", tmp_path / "crash.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "crash.json").read_text())
    for name in ("labeling", "distilling"):
        found = told[name]
        assert found["kills"] == sum(found["landed_by_tenth"]) == KILLS, name
        assert found["different"] == 0, name
        assert found["continued"] > 0, name  # it went on where another had been killed
        # Not by the benchmark's own word alone.
        whole, killed = (
            {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
            for folder in (tmp_path / name, tmp_path / f"{name}-killed")
        )
        assert killed == whole
        assert len(whole) == (61 if name == "labeling" else 1), name
