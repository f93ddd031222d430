import re

import pytest
from labeled import make_network, make_set
from targets.conftest import fill, flip, make_plan

from attar import label
from attar.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["targets", *map(str, arguments)])
    return ended.value.code or 0, capsys.readouterr()


def test_inspect_verify_and_merge(shape_hints_off, tmp_path, capsys):
    plan = make_plan()
    fill(tmp_path / "a", plan, shards={0, 1})
    fill(tmp_path / "b", plan, shards={2})
    code, printed = run(capsys, "merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert (code, printed.out.endswith("c: 3 shards, 10 examples\n")) == (0, True)
    code, printed = run(capsys, "verify", tmp_path / "c")
    assert (code, printed.out.endswith("all 3 shards match their checksums\n")) == (0, True)
    code, printed = run(capsys, "inspect", tmp_path / "c")
    assert code == 0
    assert "10 examples, 12 classes, 1 view(s), 1 member(s); Sparse(k=4" in printed.out
    assert "measured on 3 rows" in printed.out
    assert "\nteacher: not measured (no hard targets, or labeled by an earlier " in printed.out


def test_inspect_tells_how_often_the_teacher_was_right(shape_hints_off, tmp_path, capsys):
    label(make_network(), make_set(), tmp_path / "store")
    printed = run(capsys, "inspect", tmp_path / "store")[1].out
    assert re.search(
        r"\nteacher: right on \d.* % of 22 labeled examples \(most frequent class 22.7 %\), NLL \d",
        printed,
    )


def test_wrong_input_is_one_line_and_code_2(shape_hints_off, tmp_path, capsys):
    fill(tmp_path / "a", make_plan(), shards={0})
    for arguments in (
        ("inspect", tmp_path / "nowhere"),
        ("verify", tmp_path / "a"),
        ("merge", tmp_path / "a", "--out", tmp_path / "c"),
        ("merge", tmp_path / "a"),
    ):
        code, printed = run(capsys, *arguments)
        assert code == 2
        assert printed.err.startswith("attar: error: ")
        assert printed.err.count("\n") == 1


def test_verify_names_the_damaged_shard(shape_hints_off, tmp_path, capsys):
    fill(tmp_path, make_plan()).finish()
    flip(tmp_path / "shard-00001.arrow")
    code, printed = run(capsys, "verify", tmp_path)
    assert code == 2
    assert "shard-00001.arrow is damaged: expected SHA-256" in printed.err
    assert "label again" in printed.err
