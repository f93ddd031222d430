"""A step's folder: claimed, gone on with, put aside, taken back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import FolderError, JobError
from attar.jobs.steps import Step, describe_changes


class Told(list):
    def __call__(self, now):
        self.append(now)


def make_step(folder, **inputs):
    return Step(folder, "distill/seed-0", {"temperature": 4.0, "views": (0, 1)} | inputs)


def finish(step, content=b"weights"):
    (step.place / "out").write_bytes(content)
    step.finish("out")


def test_a_step_begins_goes_on_and_is_skipped(tmp_path):
    told, step = Told(), make_step(tmp_path)
    assert not step.begin(told)
    assert told == []
    (step.place / "half").write_bytes(b"half")
    assert not make_step(tmp_path).begin(told)
    assert (step.place / "half").exists()
    finish(step)
    assert make_step(tmp_path).begin(told)
    assert told == [
        "distill seed-0: resumes",
        "distill seed-0: nothing has changed, skipped",
    ]


def test_an_unfinished_step_is_kept_too_and_goes_on_when_it_is_taken_back(tmp_path):
    step, told = make_step(tmp_path), Told()
    step.begin(told)
    (step.place / "half").write_bytes(b"half")
    other = make_step(tmp_path, temperature=2.0)
    other.begin(told)
    assert not (other.place / "half").exists()
    finish(other)
    assert not make_step(tmp_path).begin(told)
    assert (step.place / "half").read_bytes() == b"half"
    assert make_step(tmp_path, temperature=2.0).begin(told)
    assert told[-1].startswith("distill seed-0: temperature 4.0 -> 2.0; earlier result restored")


@pytest.mark.slow
@given(st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=8))
def test_whatever_changes_in_any_order_each_result_is_made_once(tmp_path_factory, temperatures):
    folder, made = tmp_path_factory.mktemp("job"), []
    for temperature in temperatures:
        step = make_step(folder, temperature=temperature)
        if not step.begin(Told()):
            made.append(temperature)
            finish(step, str(temperature).encode())
        assert (step.place / "out").read_bytes() == str(temperature).encode()
    assert made == list(dict.fromkeys(temperatures))


def test_an_output_that_was_removed_is_made_again_and_the_rest_is_kept(tmp_path):
    step, told = make_step(tmp_path), Told()
    step.begin(told)
    finish(step)
    (step.place / "out").unlink()
    with pytest.raises(JobError, match="out is damaged or was changed; run `attar distill job"):
        step.check_done("attar distill job.toml")
    assert not step.begin(told)
    assert told[0].startswith("distill seed-0 again: out is damaged or was changed (the earlier")
    assert len(list(tmp_path.glob("earlier/distill/seed-0-*-changed/step.json"))) == 1


def test_what_is_there_without_a_record_is_kept(tmp_path):
    step = make_step(tmp_path)
    step.place.mkdir(parents=True)
    (step.place / "mine.txt").write_text("mine", encoding="utf-8")
    assert not step.begin(Told())
    assert (tmp_path / "earlier/distill/seed-0-unknown/mine.txt").exists()


@pytest.mark.parametrize(
    ("before", "after", "entry"),
    [
        ('"inputs"', '"inputz"', "inputs"),
        ('"done"', '"dome"', "done"),
        ('"done": true', '"done": 5', "done"),
        ('"machine": {', '"machine": 5, "other": {', "machine"),
        ('"outputs": {', '"outputs": 5, "other": {', "outputs"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, before, after, entry):
    step = make_step(tmp_path)
    step.begin(Told())
    finish(step)
    text = (step.place / "step.json").read_text(encoding="utf-8")
    assert before in text
    (step.place / "step.json").write_text(text.replace(before, after), encoding="utf-8")
    for use in (
        lambda: step.begin(Told()),
        step.is_done,
        step.machine,
        lambda: step.check_done(""),
    ):
        with pytest.raises(FolderError, match=rf"step\.json is damaged: .* entry '{entry}'"):
            use()


def test_changes_are_told_in_words():
    prints = {"the data": "a" * 64, "code": None}, {"the data": "b" * 64, "code": "c" * 64}
    assert describe_changes(*prints) == "the data changed, code added"
    assert describe_changes({"k": 8, "mean": "x"}, {"k": None, "mean": "y"}) == (
        "k 8 -> none, mean x -> y"
    )
    many = {str(name): name for name in range(9)}
    assert describe_changes(many, {}).endswith("3 3 -> none, 5 more")
