"""Teachers from `transformers`: image and text classifiers.

The package (extra `transformers`) is imported only to load a folder.
"""

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.answers import find_logits
from attar.errors import AttarError, DataError, ShapeError, file_error
from attar.precision import Precision
from attar.teachers.image_processors import UNCHANGED, Preparation, prepare_images
from attar.teachers.networks import NetworkTeacher
from attar.teachers.protocol import Answers, Rest, check_class_count, find_classes
from attar.teachers.token_types import warn_of_pairs

_VOLATILE = ("_name_or_path", "transformers_version", "_commit_hash", "dtype", "torch_dtype")
_LOADERS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
}
_OTHER_HEADS = re.compile(r"For(?!(Image|Sequence)Classification|NextSentencePrediction)[A-Z]\w+$")
# Inputs that a model needs besides its first one, although they are optional in its signature.
_NEEDED = ("bbox", "visual_embeds", "spatial_shapes", "pixel_attention_mask")


class HuggingFaceClassifier(nn.Module):
    """A `transformers` model as a network with one input that returns logits.

    Token ids are passed as `input_ids`, with an `attention_mask` that is 0 at the padding token.
    Token types are not passed and default to 0, as for single texts. Images are passed as
    `pixel_values`, normalized by `mean` and `std` of each channel, if given.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        columns: Sequence[int],
        padding: int | None,
        preparation: Preparation,
    ) -> None:
        """Store the model, the positions of the classes, and the preparation of inputs."""
        super().__init__()
        self.model: Any = model
        self.columns, self.padding = list(columns), -1 if padding is None else padding
        self.preparation = preparation
        self.register_buffer("mean", torch.tensor(preparation.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preparation.std).view(-1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[batch, classes]` for token ids `[batch, length]` or `[batch, *image]`."""
        name = f"the model {type(self.model).__name__}"
        if self.model.main_input_name == "input_ids":
            mask = torch.ne(inputs, self.padding).long()  # [batch, length]
            if (getattr(self.model.config, "type_vocab_size", None) or 0) > 1:
                warn_of_pairs(inputs, mask, name)
            answer = self.model(input_ids=inputs, attention_mask=mask)
        else:
            self.preparation.check(inputs, name)
            if len(self.mean):
                inputs = (inputs - self.mean) / self.std
            answer = self.model(pixel_values=inputs)
        logits = find_logits(answer, name)
        if logits.ndim != 2 or logits.shape[1] != len(self.columns):
            raise ShapeError(
                f"expected logits {[len(inputs), len(self.columns)]}, got {list(logits.shape)} "
                f"from {name}; is it a classifier of whole texts or images?"
            )
        return logits[:, self.columns]

    def extra_repr(self) -> str:
        """Return further settings that affect the outputs: `repr` omits the configuration."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _VOLATILE}
        told = json.dumps(config, sort_keys=True, default=str)
        return f"columns={self.columns}, padding={self.padding}, config={told}"


def is_hugging_face(model: object) -> bool:
    """Return whether a module is a classifier of `transformers`."""
    return hasattr(getattr(model, "config", None), "id2label") and hasattr(model, "main_input_name")


def is_hugging_face_folder(path: Path) -> bool:
    """Return whether a folder contains a model of `transformers`."""
    return (path / "config.json").is_file()


def make_hugging_face_teacher(
    model: Any,  # noqa: ANN401 (transformers may be absent)
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers,
    rest: Rest | None,
    precision: Precision,
    padding: int | None,
    processor: object,
) -> NetworkTeacher:
    """Wrap a model; see `HuggingFaceClassifier`.

    Raises:
        AttarError: If it takes token ids and the padding token is unknown, or takes images and
            there is no processor.
        DataError: If it is not a single-label classifier, needs more than one input, or its classes
            have other names.
        ShapeError: If it has another number of classes.
    """
    config, name = model.config, f"the model {type(model).__name__}"
    _check_inputs(model, name)
    _check_task(model, name)
    check_class_count(config.num_labels, classes=classes, name=name)
    preparation = Preparation()
    if model.main_input_name == "input_ids":
        if processor is not None:
            raise AttarError(
                f"processor= cannot be used with {name}, which takes token ids; leave it out"
            )
        padding = padding if padding is not None else getattr(config, "pad_token_id", None)
        if padding is None:
            raise AttarError(
                f"the padding token of {name} is unknown; pass as_teacher(..., padding=...)"
            )
        own = getattr(config, "pad_token_id", None)
        if own != padding and "pad_token_id" in inspect.getsource(type(model).forward):
            raise AttarError(
                f"config.pad_token_id of {name} is {own}, but the padding token of the inputs is "
                f"{padding}; the model finds the last token by it, so set it to {padding}"
            )
    elif processor is None:
        raise _no_processor(model, name)
    else:
        preparation = prepare_images(processor, name)
    columns = _find_columns(config.id2label, class_names, name)
    network = HuggingFaceClassifier(
        model, columns=columns, padding=padding, preparation=preparation
    )
    network.training = model.training  # its layers keep their modes: some may be frozen
    return NetworkTeacher(network, classes, answers, precision, rest)


def as_network(network: nn.Module, class_names: Sequence[str]) -> nn.Module:
    """Return a network with one input for training or measuring a model.

    A `transformers` model is wrapped as a teacher is: with an attention mask, and classes matched
    by name. Images are passed unchanged. Model and wrapper share their weights. Any other network
    is returned unchanged.

    Args:
        network: The model.
        class_names: Class names of the transfer set.

    Raises:
        AttarError: As `make_hugging_face_teacher`.
    """
    if not is_hugging_face(network):
        return network
    is_text = getattr(network, "main_input_name", None) == "input_ids"
    return make_hugging_face_teacher(
        network,
        classes=len(class_names),
        class_names=class_names,
        answers="logits",
        rest=None,
        precision="float32",
        padding=None,
        processor=None if is_text else UNCHANGED,
    ).network


def open_hugging_face_teacher(
    folder: Path,
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers,
    rest: Rest | None,
    precision: Precision,
    padding: int | None,
    processor: object,
) -> NetworkTeacher:
    """Load a folder written by `save_pretrained`: local, safetensors only, without remote code.

    Images are normalized by the image processor in the folder, unless another is given.

    Raises:
        AttarError: If `transformers` is missing; also as `make_hugging_face_teacher`.
        DataError: If the folder has no classifier, or cannot be loaded.
    """
    architecture = (_read_json(folder / "config.json").get("architectures") or ["none"])[0]
    loader = next((_LOADERS[end] for end in _LOADERS if architecture.endswith(end)), None)
    if loader is None:
        ends = " or ".join(_LOADERS)
        raise DataError(f"expected a model ...{ends} in {folder}, got {architecture}")
    try:
        import transformers
    except ImportError as error:
        raise AttarError(
            f"{error.name} is not installed, which is needed to load {folder}; "
            "run `pip install 'attar[transformers]'`"
        ) from error
    try:
        model = getattr(transformers, loader).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"transformers cannot load {folder}: {reason}") from error
    if processor is None and model.main_input_name == "pixel_values":
        processor = folder
    return make_hugging_face_teacher(
        model,
        classes=classes,
        class_names=class_names,
        answers=answers,
        rest=rest,
        precision=precision,
        padding=padding,
        processor=processor,
    )


def _check_inputs(model: Any, name: str) -> None:  # noqa: ANN401
    if model.main_input_name not in ("input_ids", "pixel_values"):
        raise DataError(
            f"expected a classifier of token ids or images, but {name} takes "
            f"{model.main_input_name}; wrap it in a torch module with one input"
        )
    parameters = inspect.signature(model.forward).parameters
    needed = [
        each.name
        for each in parameters.values()
        if each.name != model.main_input_name
        and (
            each.name in _NEEDED
            or (
                each.default is each.empty
                and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            )
        )
    ]
    if needed:
        raise DataError(
            f"expected a model with the single input {model.main_input_name}, but {name} also "
            f"needs {', '.join(needed)}, which a transfer set cannot contain; compute its logits "
            "yourself and pass them to attar.label, or wrap it in a torch module with one input"
        )


def _check_task(model: Any, name: str) -> None:  # noqa: ANN401
    """Raise `DataError` unless the model predicts one class per text or image."""
    own = "use attar.TrainingRun with a custom loss to distill such a model"
    kind = getattr(model.config, "problem_type", None)
    if kind == "multi_label_classification":
        raise DataError(
            f"expected a model with one class per example, but {name} is a multi-label model; {own}"
        )
    if kind == "regression" or model.config.num_labels == 1:
        raise DataError(f"expected a classifier, but {name} is a regression model; {own}")
    classes = [each for each in type(model).__mro__ if each.__module__.startswith("transformers.")]
    head = next((each.__name__ for each in classes if "For" in each.__name__), None)
    if head is not None and _OTHER_HEADS.search(head):
        task = head[head.rindex("For") + 3 :]
        raise DataError(
            f"expected a classifier of whole texts or images, but {name} is for {task}; {own}"
        )


def _no_processor(model: Any, name: str) -> AttarError:  # noqa: ANN401
    place = getattr(model.config, "_name_or_path", None) or "..."
    return AttarError(
        f"{name} needs its image processor, which normalizes the images; pass the result of "
        "attar.as_teacher(model, class_names=..., "
        f'processor=AutoImageProcessor.from_pretrained("{place}")), or use processor="none" if the '
        "model takes the transfer set's inputs unchanged (uint8 images divided by 255), as a "
        "student trained by attar does"
    )


def _find_columns(
    id2label: dict[int, str], class_names: Sequence[str] | None, name: str
) -> list[int]:
    """Match classes by name; `transformers` calls classes without a name LABEL_0, LABEL_1, ..."""
    labels = {int(index): label for index, label in id2label.items()}  # of JSON: texts
    found = [labels[index] for index in range(len(labels))]
    if found == [f"LABEL_{index}" for index in range(len(found))]:
        found = [str(index) for index in range(len(found))]
    remedy = (
        "set config.id2label of the model to the names of the transfer set, in the model's order"
    )
    return list(find_classes(found, class_names, name=name, remedy=remedy))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise file_error("read", path, error) from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"expected a JSON object in {path}, got {type(content).__name__}")
    return content
