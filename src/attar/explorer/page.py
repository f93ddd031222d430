"""Making the page: what of a run goes into it, and what there is no room for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attar.explorer.exploration import ExampleSet, Exploration, Model
from attar.explorer.packing import (
    Json,
    PackedNetwork,
    linear_layers,
    pack,
    pack_inputs,
    pack_network,
)
from attar.pages import make_page

MOST_CHARACTERS = 14_500_000  # of the whole page
OWN_CHARACTERS = 200_000  # of these: template, styles and scripts
LOGITS_PER_MODEL = 2_000_000  # numbers of one model in one set; of more examples, some are taken
SCRIPTS = (
    "data.js",
    "softmax.js",
    "elements.js",
    "temperature.js",
    "demonstration.js",
    "finding.js",
    "pictures.js",
    "example.js",
    "curve.js",
    "browser.js",
    "resemblance.js",
    "network.js",
    "drawing.js",
    "main.js",
)


def make_explorer(exploration: Exploration, *, room: int = MOST_CHARACTERS) -> str:
    """Make the explorer's page.

    Args:
        exploration: What to look at.
        room: Characters that the page may take. Networks that answer drawings get what the
            examples leave: the first student exactly as it is or not at all, then the teacher as
            exactly as possible.

    Returns:
        HTML that needs nothing else.
    """
    sets = [_pack_set(shown, exploration.models) for shown in exploration.sets]
    used = sum(map(_characters, sets)) + OWN_CHARACTERS
    networks, why_not = _pack_networks(exploration, room - used)
    data = {
        "classes": list(exploration.class_names),
        "models": [model.name for model in exploration.models],
        "sets": sets,
        "networks": networks,
        "temperature": exploration.temperature,
    }
    return make_page(
        __package__,
        "explorer.html",
        styles=("explorer.css",),
        scripts=SCRIPTS,
        data=data,
        exploration=exploration,
        counts=[(packed["name"], packed["shown"], packed["all"]) for packed in sets],
        networks=networks,
        why_not=why_not,
    )


def _pack_set(shown: ExampleSet, models: Sequence[Model]) -> Json:
    pictures = shown.pictures
    total, classes = len(shown.examples), shown.examples.classes
    step = -(-total * classes // LOGITS_PER_MODEL)  # every example, every second one, ...
    rows = torch.arange(0, total, max(1, step))
    return {
        "name": shown.name,
        "all": total,
        "shown": len(rows),
        "ids": pack(shown.examples.example_ids[rows].int().numpy()),
        "targets": pack(shown.examples.hard_targets[rows].int().numpy()),
        "inputs": pack_inputs((shown.examples.inputs if pictures is None else pictures)[rows]),
        "caption": shown.caption,
        "logits": [pack(shown.logits[model.name][rows].float().numpy()) for model in models],
    }


def _characters(content: Any) -> int:  # noqa: ANN401
    if isinstance(content, dict):
        return sum(map(_characters, content.values()))
    if isinstance(content, list):
        return sum(map(_characters, content))
    return len(content) if isinstance(content, str) else 8


def _pack_networks(exploration: Exploration, room: int) -> tuple[list[Json], str | None]:
    """Pack what answers drawings: the first student, and the teacher if there is room for it."""
    shown, student = exploration.sets[0], exploration.students[0]
    if student.network is None:
        return [], "this run's student was not given"
    if linear_layers(student.network) is None:
        return [], "the student is no plain multilayer perceptron"
    if shown.examples.inputs.dtype != torch.uint8 or shown.examples.inputs.dim() != 3:
        return [], "the examples are no gray images of bytes"
    packed = _pack_model(student, student.network, shown, room)
    if packed is None or packed["storage"] != "float32":
        return [], "the student is too large for a page"
    networks, teacher = [packed], exploration.teacher
    if teacher.network is not None and linear_layers(teacher.network):
        of_teacher = _pack_model(teacher, teacher.network, shown, room - packed["size"])
        networks = [of_teacher, packed] if of_teacher else networks
    return networks, None


def _pack_model(model: Model, network: nn.Module, shown: ExampleSet, room: int) -> Json | None:
    packed: PackedNetwork | None = pack_network(
        network, shown.examples, shown.logits[model.name], room=room
    )
    if packed is None:
        return None
    return {
        "name": model.name,
        "layers": packed.layers,
        "storage": packed.storage,
        "deviation": packed.deviation,
        "changed": packed.changed,
        "size": packed.size,
    }
