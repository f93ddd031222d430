"""What is wrong with a job file is told in one line that begins with the place."""

import pytest

from attar.errors import JobError
from attar.jobs import read_job


def test_a_whole_job_is_read(folder):
    job = read_job(folder.path)
    assert job.settings.distill.temperature == 4.0
    assert job.settings.distill.seeds == (0,)
    assert [each.source for each in job.settings.teacher] == ["networks.py:make_teacher"]
    assert job.folder == folder.root / "job"
    with pytest.raises(ValueError, match="frozen"):
        job.settings.distill.temperature = 5.0


def test_several_teachers_are_an_ensemble(folder):
    folder.edit("[teacher]\n", '[[teacher]]\nsource = "a.onnx"\n[[teacher]]\n')
    teachers = read_job(folder.path).settings.teacher
    assert [each.source for each in teachers] == ["a.onnx", "networks.py:make_teacher"]
    assert [each.train is None for each in teachers] == [True, False]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "4.0",
            "1e300",
            '19, distill.temperature: expected a number up to 1e+15, or "auto", got 1e',
        ),
        ("4.0", "9" * 400, "19, distill.temperature: expected a number up to 1e+15"),
        (
            "epochs = 2\n",
            f"epochs = {10**400}\n",
            "11, teacher.train.epochs: expected a number less",
        ),
        (
            "hard_weight = 0.1",
            "hard_weight = 1e300",
            "21, distill.hard_weight: expected a number l",
        ),
        (
            "[test_set]",
            f"classes = {10**9}\n[test_set]",
            "5, transfer_set.classes: expected a numb",
        ),
        (
            "# a job",
            r'folder = "a\u0000b"' + "\n# a job",
            "1, folder: expected a path, got one with a null char",
        ),
        ("4.0", '"4"', 'distill.temperature: expected a number above 0, or "auto", got "4"; try'),
        ("4.0", "-1", '19, distill.temperature: expected a number above 0, or "auto", got -1; '),
        ("4.0", "nan", '19, distill.temperature: expected a number above 0, or "auto", got nan;'),
        ("4.0", "true", '19, distill.temperature: expected a number above 0, or "auto", got true'),
        ("4.0", '"Auto"', 'expected a number above 0, or "auto", got "Auto"; try temperature = 4'),
        ("soft_weight = 1.0", "soft_weight = -1", "20, distill.soft_weight: expected a number gr"),
        ("soft_weight = 1.0", "soft_weight = nan", "20, distill.soft_weight: expected a finite"),
        (
            "temperature = 4.0\n",
            "",
            "18, distill.temperature: expected temperature (temperature of",
        ),
        ("temperature", "temprature", "19, distill.temprature: expected one of temperature, soft"),
        ("temperature", "temprature", "got 'temprature'; did you mean temperature? (and 1 more)"),
        ("[student]\n", "[student]\nepochs = 3\n", "got 'epochs'; did you mean teacher."),
        ("[student]\n", "[student]\nq = 3\n", "16, student.q: expected one of source, got 'q'; re"),
        ("[student]", "[studnet]", "15, studnet: expected one of folder, transfer_set, "),
        ('[student]\nsource = "networks.py:make_student"', "", "1, student: expected a table [stu"),
        ("# a job", "student = 3\n# a job", "cannot overwrite a value"),
        ("epochs = 2\n", "epochs = 0\n", "11, teacher.train.epochs: expected a number greater"),
        ("epochs = 2\n", "epochs = 1.5\n", "11, teacher.train.epochs: expected a valid integer"),
        ("epochs = 2\n", "epochs = true\n", "11, teacher.train.epochs: expected a valid integer"),
        ("[baseline]", "epochs =", "25: invalid TOML ("),
        ("[baseline]", "x = '''", "28: invalid TOML ("),
        (
            "[baseline]",
            "seeds = []",
            "25, distill.seeds: expected more items in the array, got []; try",
        ),
        ("[baseline]", "seeds = 3", "25, distill.seeds: expected an array in [brackets], got 3"),
        ("[baseline]", "seeds = [2, 2]", "25, distill.seeds: expected seeds that differ, got [2"),
        ("[baseline]", "seeds = [2,\n'a']", "distill.seeds[1]: expected a valid integer, got"),
        ("[baseline]", "baseline = 3", "25, distill.baseline: expected one of temperature"),
        ("[baseline]", '[soft_targets]\nencoding = "sparse"', "25, soft_targets: expected k with"),
        ("[baseline]", "[soft_targets]\nk = 3", "25, soft_targets: expected no k with the dense"),
        (
            "[baseline]",
            "[soft_targets]\nexpected_accuracy = 80",
            "26, soft_targets.expected_accuracy: expected a number less than or equal to 1, got 80",
        ),
        ("[baseline]", "[soft_targets]\nviews = [-1]", "26, soft_targets.views: expected a number"),
        ("[teacher.train]", 'weights = "w"\n[teacher.train]', "8, teacher: expected weights or"),
        (
            "[teacher]",
            '[[teacher]]\nsource = "x"\n[[teacher]]\nq = 1',
            "11, teacher[1].q: expected",
        ),
        ("# a job", 'folder = "."\n# a job', "1, folder: expected a folder for this job alone"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder, before, after, message):
    folder.edit(before, after)
    with pytest.raises(JobError) as caught:
        read_job(folder.path)
    told = str(caught.value)
    assert told.startswith(f"{folder.path}, line ")
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, f"a = {'9' * 5000}"])
def test_what_the_parser_cannot_take_is_told_too(folder, text):
    folder.path.write_text(text)
    with pytest.raises(JobError, match=r"expected a job file, got .*job\.toml: "):
        read_job(folder.path)


SPARSE = '[soft_targets]\nencoding = "sparse"\nk = 2\n'
TWO = "[[teacher]]\nsource = 'a.onnx'\n[[teacher]]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"4.0": "0.5", "[baseline]": SPARSE}, "19, distill.temperature: expected at least 1 with"),
        (
            {"4.0": '"auto"', "[test_set]": "unlabeled = true\n[test_set]"},
            "20, distill.temperature: expected a number, because the transfer set is unlabeled",
        ),
        (
            {"[teacher]": TWO, "4.0": "4.0\nmean = 'geometric'", "[baseline]": SPARSE},
            "22, distill.mean: expected arithmetic with the sparse soft targets of an ensemble",
        ),
        (
            {"4.0": "4.0\nmember_weights = [1, 2]"},
            "20, distill.member_weights: expected one weight for each of 1 teachers, got [1.0",
        ),
        (
            {"[baseline]": "[soft_targets]\nviews = [0, 1]"},
            "26, soft_targets.views: expected [0], because the transfer set has no views, got [",
        ),
    ],
)
def test_tables_that_contradict_each_other_are_told(folder, changes, message):
    for before, after in changes.items():
        folder.edit(before, after)
    with pytest.raises(JobError) as caught:
        read_job(folder.path)
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(folder):
    with pytest.raises(JobError, match=r"cannot read gone.toml: No such file .*`attar init`"):
        read_job("gone.toml")
    folder.path.write_bytes(b"\xff")
    with pytest.raises(JobError, match="expected a job file in UTF-8"):
        read_job(folder.path)


def test_lines_may_end_as_on_windows(folder):
    folder.path.write_bytes(folder.path.read_bytes().replace(b"\n", b"\r\n").replace(b"4.0", b"0"))
    with pytest.raises(JobError, match=r"line 19, distill\.temperature"):
        read_job(folder.path)
