import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.cli import main
from attar.errors import DataError, FolderError
from attar.speech.an4 import prepare_an4
from attar.speech.audio import Recording, read_recording, write_recording
from attar.speech.corpora import read_part, read_speech_data, write_part
from attar.speech.fsdd import WORDS, StringSettings, prepare_fsdd
from attar.speech.sources import open_source

SHARED = Path(__file__).parents[3] / "shared" / "data"
FEW = StringSettings(test_speakers=1, strings=3, test_strings=2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Make recordings named as in the data set: tones whose pitch is the digit's."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "recordings").mkdir()
    generator = torch.Generator().manual_seed(0)
    for speaker in ("ann", "bob", "eve"):
        for digit in range(10):
            pitch = 0.05 * (digit + 1)
            samples = torch.sin(torch.arange(2400) * pitch) / 4
            samples += torch.randn(2400, generator=generator) / 100
            path = folder / "recordings" / f"{digit}_{speaker}_0.wav"
            write_recording(Recording(samples, 8000), path)
    return folder


def test_strings_have_pauses_and_speakers_of_the_test_are_others(digits, tmp_path):
    assert prepare_fsdd(str(digits), tmp_path / "out", FEW) == []
    data = read_speech_data(tmp_path / "out")
    assert (data.train.speakers, data.test.speakers) == (("ann", "bob"), ("eve",))
    assert (len(data.train), len(data.test)) == (6, 2)
    for each in data.train.utterances + data.test.utterances:
        assert 3 <= len(each.words) <= 7
        assert set(each.words) <= set(WORDS)
        digits_seconds = 0.3 * len(each.words)
        seconds = each.frames / 100
        assert digits_seconds < seconds < digits_seconds + 0.4 * (len(each.words) + 1)
    assert not data.lexicon.missing(WORDS)


def test_the_same_seed_gives_the_same_bytes_whoever_else_is_there(digits, tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        settings = StringSettings(test_speakers=1, strings=2, test_strings=1, seed=seed)
        prepare_fsdd(str(digits), tmp_path / name, settings)
    prepare_fsdd(str(digits), tmp_path / "two", StringSettings(test_speakers=2, strings=2))
    wav = Path("train") / "wav" / "ann-0001.wav"
    content = (tmp_path / "one" / wav).read_bytes()
    assert content == (tmp_path / "again" / wav).read_bytes()
    assert content == (tmp_path / "two" / wav).read_bytes()
    assert content != (tmp_path / "other" / wav).read_bytes()


def test_every_recording_is_used_before_one_is_used_again(digits, tmp_path):
    prepare_fsdd(
        str(digits), tmp_path / "out", StringSettings(test_speakers=2, strings=2, longest=5)
    )
    text = (tmp_path / "out" / "train" / "text").read_text().splitlines()
    spoken = [word for line in text for word in line.split()[1:]]
    assert len(set(spoken[:10])) == len(spoken[:10])


def test_noise_is_as_loud_as_asked(digits, tmp_path):
    loud = StringSettings(
        test_speakers=2, strings=1, least_snr_db=0.0, most_snr_db=0.0, least_pause_seconds=0.4
    )
    prepare_fsdd(str(digits), tmp_path / "out", loud)
    samples = read_recording(tmp_path / "out" / "train" / "wav" / "ann-0000.wav").samples
    pause, digit = samples[:3200], samples[3300:5500]
    ratio = (digit.square().mean() / pause.square().mean()).item()
    assert ratio == pytest.approx(2.0, rel=0.2)  # signal and noise against noise


def test_a_damaged_recording_of_a_digit_is_named(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "in")
    path = tmp_path / "in" / "recordings" / "3_ann_0.wav"
    path.write_bytes(path.read_bytes()[:-100])
    problems = prepare_fsdd(str(tmp_path / "in"), tmp_path / "out", FEW)
    assert [each.utterance for each in problems] == ["3_ann_0.wav"]


def test_sources_without_digits_or_with_too_few_speakers_are_refused(digits, tmp_path):
    with pytest.raises(DataError, match="got 0: no recordings named like 7_jackson_32"):
        prepare_fsdd(str(tmp_path), tmp_path / "out", FEW)
    with pytest.raises(
        DataError, match=r"expected more than 3 speakers in .* got 3: ann, bob, eve"
    ):
        prepare_fsdd(str(digits), tmp_path / "out", StringSettings(test_speakers=3))
    with pytest.raises(DataError, match="digits from less to more, got 5 to 4"):
        StringSettings(shortest=5, longest=4)


@pytest.fixture
def an4(tmp_path):
    """Make a corpus in the form that CMU distributes."""
    folder = tmp_path / "an4"
    etc = folder / "etc"
    etc.mkdir(parents=True)
    (etc / "an4.dic").write_text("GO  G OW\nYES  Y EH S\n")
    (etc / "an4.ug.lm").write_text("about\n\n\\data\\\nngram 1=1\n")
    for part, place, speakers in (
        ("train", "an4_clstk", ("fash", "mmap")),
        ("test", "an4test_clstk", ("fcaw",)),
    ):
        ids = [
            f"{place}/{speaker}/an{number}-{speaker}-b" for speaker in speakers for number in (1, 2)
        ]
        (etc / f"an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        lines = [f"<s> YES GO </s> ({Path(id).name})\n" for id in ids]
        (etc / f"an4_{part}.transcription").write_text("".join(lines))
        for number, id in enumerate(ids):
            path = folder / "wav" / f"{id}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = torch.sin(torch.arange(16000) * (0.1 + number / 20)) / 3
            write_recording(Recording(samples, 16000), path)
    return folder


@pytest.mark.parametrize("form", ["folder", "tar", "zip", "url"])
def test_an4_with_recordings_is_made_ready_from_a_folder_or_an_archive(an4, tmp_path, form):
    source = str(an4)
    if form in ("tar", "url"):
        source = str(tmp_path / "an4.tar.gz")
        with tarfile.open(source, "w:gz") as tarred:
            tarred.add(an4, "an4")
    if form == "url":
        source = Path(source).as_uri()
    if form == "zip":
        source = shutil.make_archive(str(tmp_path / "an4"), "zip", an4)
    assert prepare_an4(source, tmp_path / "out") == []
    data = read_speech_data(tmp_path / "out")
    assert (data.train.speakers, data.test.speakers) == (("fash", "mmap"), ("fcaw",))
    assert data.train.utterances[0].words == ("YES", "GO")
    assert data.train.dims == 40
    assert data.language_model is not None
    assert data.language_model.read_text().startswith("\\data\\")


def test_recordings_of_an4_that_are_missing_or_damaged_are_named(an4, tmp_path):
    first, second = sorted((an4 / "wav" / "an4_clstk" / "fash").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:99])
    problems = prepare_an4(str(an4), tmp_path / "out")
    assert [(each.utterance, each.kind) for each in problems] == [
        ("an1-fash-b", "missing wav"),
        ("an2-fash-b", "bad recording"),
    ]


def test_ready_made_mfcc_of_an4_are_taken(an4, tmp_path):
    np.savez(
        an4 / "an4_mfcc13.npz",
        feats=np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32),
        offsets=np.array([0, 20, 50]),
        utt=np.array(["an1-a-b", "an2-c-b"]),
        text=np.array(["YES", "GO GO"]),
        speaker=np.array(["a", "c"]),
        split=np.array(["train", "test"]),
    )
    prepare_an4(str(an4), tmp_path / "out")
    data = read_speech_data(tmp_path / "out")
    assert (data.train.dims, data.train.frames, data.test.frames) == (39, 20, 30)
    assert data.test.utterances[0].words == ("GO", "GO")
    np.savez(an4 / "an4_mfcc13.npz", feats=np.zeros((3, 13)))
    with pytest.raises(DataError, match="expected AN4's MFCC"):
        prepare_an4(str(an4), tmp_path / "other")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["an4", "out"]  # no half of it


def test_a_folder_that_is_there_is_left_as_it_is(an4, digits, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    prepare_an4(str(an4), out)  # it was empty
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(FolderError, match="expected a new folder"):
        prepare_an4(str(an4), out)
    with pytest.raises(FolderError, match="expected a new folder"):
        prepare_fsdd(str(digits), out, FEW)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_sources_that_cannot_be_opened_are_told(tmp_path):
    with pytest.raises(DataError, match=r"which has no an4\.dic"):
        prepare_an4(str(tmp_path), tmp_path / "out")
    with pytest.raises(FolderError, match="which is not there"), open_source(str(tmp_path / "no")):
        pass
    with pytest.raises(FolderError, match="cannot fetch file:///none"), open_source("file:///none"):
        pass
    path = tmp_path / "a.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="expected a zip or tar archive"), open_source(str(path)):
        pass
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a", "a" * 100)
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"X" + content[41:])
    with pytest.raises(DataError, match="is damaged"), open_source(str(path)):
        pass


def test_the_command_says_what_was_made_and_what_was_left_out(
    an4, tmp_path, capsys, shape_hints_off
):
    (an4 / "wav" / "an4_clstk" / "fash" / "an1-fash-b.wav").unlink()
    with pytest.raises(SystemExit) as exit:
        main(["data", "an4", str(an4), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert not exit.value.code
    assert "3 utterances of 2 speakers, 6 words" in said
    assert "left out: 1 missing wav (an1-fash-b)" in said


def test_the_command_refuses_wrong_sources_in_one_line(tmp_path, capsys, shape_hints_off):
    for name in ("an4", "fsdd"):
        with pytest.raises(SystemExit) as exit:
            main(["data", name, str(tmp_path), "--out", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert exit.value.code == 2
        assert error.startswith("attar: error: expected ")
        assert error.count("\n") == 1


def test_recordings_of_an4_have_filterbanks(tmp_path):
    source = SHARED / "an4-wav-subset"
    if not source.exists():
        pytest.skip("needs shared/data/an4-wav-subset")
    with open_source(str(source / "an4_subset_wav.zip")) as found:
        rows = [line.split("\t") for line in (source / "manifest.tsv").read_text().splitlines()]
        write_part(
            tmp_path,
            text={id: words for id, _, words in rows},
            speakers={id: id.split("-")[1] for id, _, _ in rows},
            recordings={id: str(found / "wav" / f"{id}.wav") for id, _, _ in rows},
        )
        corpus, filterbanks = read_part(tmp_path)
    assert (len(corpus), corpus.dims, len(corpus.problems)) == (51, 40, 0)
    assert filterbanks is not None
    assert filterbanks.sample_rate_hz == 16000


def test_all_of_an4_is_made_ready(tmp_path):
    source = SHARED / "an4-mfcc"
    if not source.exists():
        pytest.skip("needs shared/data/an4-mfcc")
    prepare_an4(str(source), tmp_path / "out")
    data = read_speech_data(tmp_path / "out")
    assert (len(data.train), len(data.train.speakers)) == (948, 74)
    assert (len(data.test), len(data.test.speakers)) == (130, 10)
    assert data.problems == ()
    assert len(data.lexicon.phones) == 34
    said = {word for each in data.train.utterances + data.test.utterances for word in each.words}
    assert not data.lexicon.missing(said)
