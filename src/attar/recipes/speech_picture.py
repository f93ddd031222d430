"""One utterance in a picture: its features, its states, what teacher and student think of them."""

import io
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.files import write_atomically
from attar.recipes.speech_data import Part, Prepared
from attar.speech.packed import PackedFrames
from attar.speech.recognition import compute_log_posteriors, describe_states


def draw_utterance(path: Path, prepared: Prepared, teacher: nn.Module, student: nn.Module) -> None:
    """Draw the shortest test utterance of three words or more, or else the longest.

    Raises:
        FolderError: If the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    place = choose_utterance(prepared.test)
    utterance = prepared.test.utterances[place]
    states = prepared.test.states[prepared.test.packed.utterance(place)]
    phone_of = torch.from_numpy(describe_states(prepared.tree)[0])
    phones = phone_of[states]  # [frames]
    shown = sorted(
        {int(each) for each in phones}, key=lambda each: int((phones == each).nonzero()[0])
    )
    packed = PackedFrames([utterance.features])
    panels = [
        (name, by_phone(compute_log_posteriors(network, packed).exp(), phone_of)[:, shown])
        for name, network in (("teacher", teacher), ("student", student))
    ]
    names = [prepared.tree.phones[each] for each in shown]
    with rc_context({"font.size": 8}):
        figure = Figure(figsize=(9, 8), layout="constrained", dpi=130)
        axes = figure.subplots(4, 1, sharex=True, height_ratios=[1.4, 1, 1, 1])
        axes[0].imshow(utterance.features.T.numpy(), origin="lower", aspect="auto", cmap="magma")
        axes[0].set(ylabel="feature", title=f"“{' '.join(utterance.words)}”: what the network sees")
        axes[1].step(range(len(states)), [shown.index(int(each)) for each in phones], where="mid")
        axes[1].set(title=f"the alignment: phones of its {len(states.unique())} tied states")
        for axis, (name, posteriors) in zip(axes[2:], panels, strict=True):
            axis.imshow(
                posteriors.T.numpy(), origin="lower", aspect="auto", vmin=0, vmax=1, cmap="Blues"
            )
            axis.set(title=f"posteriors of the {name}, summed over each phone's states")
        for axis in axes[1:]:
            axis.set_yticks(range(len(names)), names)
        axes[-1].set_xlabel("frame of 10 ms")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def choose_utterance(part: Part) -> int:
    """Return which utterance is drawn."""
    several = [place for place, each in enumerate(part.utterances) if len(each.words) >= 3]
    if not several:
        return max(range(len(part.utterances)), key=lambda place: part.utterances[place].frames)
    return min(several, key=lambda place: part.utterances[place].frames)


def by_phone(
    posteriors: Float[Tensor, "frames states"], phone_of: Tensor
) -> Float[Tensor, "frames phones"]:
    """Add up the posteriors of each phone's states."""
    summed = torch.zeros(len(posteriors), int(phone_of.max()) + 1)
    return summed.index_add_(1, phone_of, posteriors)
