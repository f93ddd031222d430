import struct

import numpy as np
import pytest
import torch

from attar.errors import AttarError, DataError, FolderError
from attar.speech.audio import Recording, read_recording, write_recording
from attar.speech.corpora import (
    BAD_RECORDING,
    BAD_SEGMENT,
    MFCC,
    MISSING_WAV,
    NO_FEATURES,
    NO_TRANSCRIPT,
    read_part,
    read_speech_data,
    write_features,
    write_part,
)
from attar.speech.features import FilterbankSettings, add_deltas, log_mel
from attar.speech.lexicon import read_lexicon
from attar.speech.utterances import (
    Corpus,
    Problem,
    Utterance,
    count_problems,
    split_speakers,
)

WORDS = {"u1": "A", "u2": "A BA", "u3": "BA"}


def tone(seconds=0.5, rate=8000, pitch=0.1):
    return Recording(torch.sin(torch.arange(int(seconds * rate)) * pitch) / 2, rate)


@pytest.fixture
def folder(tmp_path):
    """Make a data folder with three recordings of two speakers."""
    place = tmp_path / "train"
    (place / "wav").mkdir(parents=True)
    for index, id in enumerate(WORDS):
        write_recording(tone(pitch=0.1 * (index + 1)), place / "wav" / f"{id}.wav")
    write_part(
        place,
        text=WORDS,
        speakers={"u1": "ann", "u2": "bob", "u3": "ann"},
        recordings={id: f"wav/{id}.wav" for id in WORDS},
    )
    return place


def kinds(corpus):
    return [(each.utterance, each.kind) for each in corpus.problems]


def test_a_folder_with_recordings_is_read(folder):
    corpus, filterbanks = read_part(folder)
    assert [(each.id, each.speaker, each.words) for each in corpus.utterances] == [
        ("u1", "ann", ("A",)),
        ("u2", "bob", ("A", "BA")),
        ("u3", "ann", ("BA",)),
    ]
    assert filterbanks == FilterbankSettings(8000)
    expected = log_mel(read_recording(folder / "wav" / "u1.wav").samples, filterbanks)
    assert torch.equal(corpus.utterances[0].features, expected)
    assert not corpus.problems


def test_without_utt2spk_each_utterance_is_its_own_speaker(folder):
    (folder / "utt2spk").unlink()
    assert read_part(folder)[0].speakers == ("u1", "u2", "u3")


def test_segments_are_cut_out_of_recordings(folder):
    (folder / "segments").write_text("u1 u3 0.1 0.3\nu2 u3 0.2 0.50\nu3 u2 0.1 0.6\n")
    corpus, _ = read_part(folder)
    assert [each.frames for each in corpus.utterances] == [18, 28]
    assert kinds(corpus) == [("u3", BAD_SEGMENT)]
    assert "expected an end within 0.500 s, got 0.6 s" in str(corpus.problems[0])
    (folder / "segments").write_text("u1 u3 0.1\n")
    with pytest.raises(DataError, match="expected a recording, start and end for u1"):
        read_part(folder)
    (folder / "segments").write_text("u1 u3 0.3 0.1\n")
    with pytest.raises(DataError, match="0 <= start < end for u1"):
        read_part(folder)


def test_a_missing_wav_is_left_out_and_named(folder):
    (folder / "wav" / "u2.wav").unlink()
    corpus, _ = read_part(folder)
    assert [each.id for each in corpus.utterances] == ["u1", "u3"]
    assert kinds(corpus) == [("u2", MISSING_WAV)]
    assert count_problems(corpus.problems) == "1 missing wav (u2)"


def test_a_recording_that_is_not_listed_is_missing_too(folder):
    (folder / "wav.scp").write_text("u1 wav/u1.wav\nu3 wav/u3.wav\nu9 wav/u3.wav\n")
    assert kinds(read_part(folder)[0]) == [("u9", NO_TRANSCRIPT), ("u2", MISSING_WAV)]


def test_a_lying_header_leaves_out_its_utterance(folder):
    path = folder / "wav" / "u2.wav"
    content = path.read_bytes()
    path.write_bytes(content[:40] + struct.pack("<I", 99_999) + content[44:])
    corpus, _ = read_part(folder)
    assert kinds(corpus) == [("u2", BAD_RECORDING)]
    assert "the header promises 99999 bytes of samples, 8000 are there" in str(corpus.problems[0])


def test_another_sample_rate_and_a_short_recording_leave_out_their_utterances(folder):
    write_recording(tone(rate=16000), folder / "wav" / "u2.wav")
    write_recording(tone(seconds=0.02), folder / "wav" / "u3.wav")
    corpus, _ = read_part(folder)
    assert kinds(corpus) == [("u2", BAD_RECORDING), ("u3", BAD_RECORDING)]
    assert "expected 8000 samples a second, got 16000" in str(corpus.problems[0])
    assert "at least 200 samples (25 ms), got 160" in str(corpus.problems[1])


def test_a_command_in_wav_scp_is_not_run(folder):
    (folder / "wav.scp").write_text("u1 wav/u1.wav\nu2 sph2pipe x |\nu3 wav/u3.wav\n")
    assert "expected a path in wav.scp, got a command" in str(read_part(folder)[0].problems[0])


@pytest.mark.parametrize("name", ["text", "wav.scp", "utt2spk"])
def test_an_id_that_stands_there_twice_is_refused(folder, name):
    with (folder / name).open("a") as file:
        file.write("u2 again\n")
    with pytest.raises(DataError, match=rf"occur once, got 'u2' again in .*{name}:4"):
        read_part(folder)


def test_folders_that_are_wrong_as_a_whole_are_refused(folder):
    (folder / "utt2spk").write_text("u1 ann\nu2 bob\n")
    with pytest.raises(DataError, match="got none for u3"):
        read_part(folder)
    for path in (folder / "wav").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="got none that can be used, such as u1: missing wav"):
        read_part(folder)
    (folder / "wav.scp").unlink()
    with pytest.raises(FolderError, match=r"wav\.scp or features\.safetensors"):
        read_part(folder)
    (folder / "text").write_bytes(b"u1 \xff\n")
    with pytest.raises(DataError, match="expected UTF-8"):
        read_part(folder)


def test_features_made_already_get_their_changes_if_they_are_mfcc(tmp_path):
    features = {id: torch.randn(20, 13) for id in ("u1", "u2", "u4")}
    features["u2"][3, 5] = float("nan")
    write_part(tmp_path, text=WORDS, speakers=dict.fromkeys(WORDS, "ann"))
    write_features(tmp_path, features, kind=MFCC)
    corpus, filterbanks = read_part(tmp_path)
    assert filterbanks is None
    torch.testing.assert_close(corpus.utterances[0].features, add_deltas(features["u1"]))
    assert kinds(corpus) == [("u2", NO_FEATURES), ("u3", NO_FEATURES), ("u4", NO_TRANSCRIPT)]
    write_features(tmp_path, features, kind="other")
    assert read_part(tmp_path)[0].dims == 13
    (tmp_path / "features.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="expected safetensors"):
        read_part(tmp_path)


def test_speakers_of_the_test_must_not_be_heard_in_training(folder):
    data = folder.parent
    folder.rename(data / "test")
    (data / "train").mkdir()
    for name in ("text", "utt2spk", "wav.scp"):
        content = (data / "test" / name).read_text().replace("wav/", "../test/wav/")
        (data / "train" / name).write_text(content)
    (data / "lexicon.txt").write_text("A a\nBA b a\n")
    with pytest.raises(DataError, match="got ann in both"):
        read_speech_data(data)
    (data / "train" / "utt2spk").write_text("u1 eve\nu2 joe\nu3 eve\n")
    read = read_speech_data(data)
    assert (read.train.speakers, read.test.speakers) == (("eve", "joe"), ("ann", "bob"))
    assert read.language_model is None
    for corpus in (read.train, read.test):  # normalized
        bob = [each.features for each in corpus.utterances if each.id == "u2"]
        torch.testing.assert_close(bob[0].mean(0), torch.zeros(40), atol=1e-4, rtol=0)


def test_lexicons_of_kaldi_sphinx_and_cmudict_are_read(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(";;; a comment\nA AH0\nA(2)\tEY1\n\nA AH\nBEE  B IY1\n")
    lexicon = read_lexicon(path)
    assert lexicon.pronunciations == {"A": (("AH",), ("EY",)), "BEE": (("B", "IY"),)}
    assert lexicon.phones == ("SIL", "AH", "B", "EY", "IY")
    assert lexicon.missing(["BEE", "SEE", "SEE"]) == ["SEE"]
    lexicon.write(path)
    assert path.read_text() == "A AH\nA EY\nBEE B IY\n"
    path.write_text("A AH\nBEE\n")
    with pytest.raises(DataError, match=r"lexicon\.txt:2, got 'BEE'"):
        read_lexicon(path)
    path.write_text("")
    with pytest.raises(DataError, match="an empty file"):
        read_lexicon(path)
    with pytest.raises(FolderError, match="cannot read the lexicon"):
        read_lexicon(tmp_path / "none")


def some_corpus():
    return Corpus(
        tuple(
            Utterance(f"u{index}", f"s{index % 4}", ("A",), torch.zeros(3, 2)) for index in range(9)
        ),
        (Problem("x", "missing wav", ""),),
    )


def test_no_speaker_is_in_both_parts_of_a_split():
    corpus = some_corpus()
    rest, held_out = split_speakers(corpus, held_out=1, generator=np.random.default_rng(0))
    assert len(held_out.speakers) == 1
    assert set(rest.speakers) | set(held_out.speakers) == set(corpus.speakers)
    assert len(rest) + len(held_out) == len(corpus)
    with pytest.raises(DataError, match="expected 1 to 3 speakers to hold out, got 4"):
        split_speakers(corpus, held_out=4, generator=np.random.default_rng(0))


def test_a_corpus_knows_each_id_once_and_one_kind_of_features():
    corpus = some_corpus()
    with pytest.raises(DataError, match="got u0 2 times"):
        Corpus(corpus.utterances + corpus.utterances[:1])
    odd = Utterance("odd", "s", (), torch.zeros(3, 5))
    with pytest.raises(AttarError, match="expected 2 features a frame, as u0 has, got 5 in odd"):
        Corpus((*corpus.utterances, odd))


def test_what_is_left_out_is_counted_and_kept():
    corpus = some_corpus().without([Problem("u3", "too short", "3 frames")])
    assert len(corpus) == 8
    assert count_problems(corpus.problems) == "1 missing wav (x); 1 too short (u3)"
    assert str(corpus.problems[1]) == "u3: too short: 3 frames"
