from .flips import flips


def test_no_flipped_byte_changes_what_is_read(tmp_path):
    counts = flips(154, tmp_path)
    assert sum(counts.values()) == 154
