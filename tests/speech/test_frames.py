import pytest
import torch

from attar.data import TransferSet
from attar.errors import AttarError, DataError, ShapeError
from attar.models import acoustic_dnn
from attar.speech.frames import Distort, FrameSet
from attar.speech.packed import PackedFrames
from attar.training import TrainingRun, TrainingSettings, hard_target_loss


def make_set(lengths=(30, 12), dims=3, **options):
    generator = torch.Generator().manual_seed(0)
    packed = PackedFrames([torch.randn(n, dims, generator=generator) for n in lengths], **options)
    return FrameSet(packed, torch.arange(len(packed)) % 5, classes=5)


def test_batches_are_windows_and_subsets_keep_their_neighbors():
    frames = make_set()
    chosen = torch.tensor([41, 3, 29])
    batch = frames.batch(chosen)
    torch.testing.assert_close(batch.inputs, frames.packed.windows(chosen))
    assert batch.hard_targets.tolist() == [1, 3, 4]
    part = frames.subset(chosen)
    again = part.batch(torch.tensor([2, 0]))
    torch.testing.assert_close(again.inputs, frames.packed.windows(torch.tensor([29, 41])))
    assert again.indices.tolist() == [2, 0]
    assert len(part) == 3


def test_fingerprint_sees_windows_and_utterances():
    prints = {make_set(lengths).fingerprint() for lengths in ((30, 12), (20, 22), (42,))} | {
        make_set(left=4, right=2).fingerprint()
    }
    assert len(prints) == 4
    assert make_set().fingerprint() == make_set().fingerprint()
    part, other = make_set().subset(torch.tensor([1])), make_set((30, 11)).subset(torch.tensor([1]))
    assert part.fingerprint() != other.fingerprint()


def test_indices_out_of_range_are_refused():
    with pytest.raises(DataError):
        make_set().batch(torch.tensor([42]))


def test_it_is_a_transfer_set_that_training_takes():
    frames = make_set()
    assert isinstance(frames, TransferSet)
    network = acoustic_dnn(
        5, 2, 16, inputs=frames.packed.window_dims, generator=torch.Generator().manual_seed(0)
    )
    settings = TrainingSettings(
        epochs=8, batch_size=10, learning_rate=0.01, seed=0, optimizer="adamw"
    )
    run = TrainingRun(network, frames.with_views(Distort(3, shift=0.1)), hard_target_loss, settings)
    steps = list(run)
    assert steps[-1].loss < steps[0].loss
    with pytest.raises(AttarError, match="one hidden layer"):
        acoustic_dnn(5, 0, 16, inputs=4, generator=torch.Generator())


def test_distortion_is_a_function_of_example_and_view():
    frames = make_set().with_views(Distort(3, shift=0.3, frames=4, band=2, seed=1))
    one, two = torch.tensor([5, 9, 7]), torch.tensor([7, 5])
    first, second = frames.batch(one, 2).inputs, frames.batch(two, 2).inputs
    torch.testing.assert_close(first[[2, 0]], second)
    assert not torch.equal(first, frames.batch(one, 1).inputs)
    torch.testing.assert_close(frames.batch(one, 0).inputs, frames.packed.windows(one))


def test_shift_has_the_asked_spread_and_is_one_for_the_window():
    windows, ids = torch.zeros(2000, 26 * 4), torch.arange(2000)
    changed = Distort(4, shift=0.5)(windows, ids, 1).view(2000, 26, 4)
    assert changed.std().item() == pytest.approx(0.5, rel=0.03)
    assert torch.equal(changed[:, 0], changed[:, -1])


def test_masks_are_runs_of_frames_and_bands_of_features():
    windows, ids = torch.ones(400, 26 * 8), torch.arange(400)
    kept = Distort(8, frames=6)(windows, ids, 1).view(400, 26, 8)
    masked = (kept == 0).all(2)  # [windows, frames]
    assert masked.sum(1).max() == 6
    assert torch.equal(kept == 0, masked.unsqueeze(2).expand_as(kept))
    starts = (masked[:, 1:] & ~masked[:, :-1]).sum(1) + masked[:, 0]
    assert starts.max() == 1  # one run
    assert masked[:, 0].any()
    assert masked[:, -1].any()
    bands = (Distort(8, band=3)(windows, ids, 1).view(400, 26, 8) == 0).all(1)
    assert bands.sum(1).max() == 3


def test_distortion_checks_its_arguments():
    with pytest.raises(AttarError, match="band"):
        Distort(3, band=4)
    with pytest.raises(ShapeError, match="frames of 3 features"):
        Distort(3)(torch.zeros(2, 8), torch.arange(2), 1)
