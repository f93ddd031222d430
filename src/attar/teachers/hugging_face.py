"""Teachers from `transformers`: image and sequence classifiers; loading needs that extra.

The package is imported only to load a folder: a model that is there already brought it along.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.errors import AttarError, DataError, file_error
from attar.precision import Precision
from attar.teachers.networks import NetworkTeacher
from attar.teachers.protocol import Answers, check_class_count

_VOLATILE = ("_name_or_path", "transformers_version", "_commit_hash", "dtype", "torch_dtype")
_LOADERS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
}


class HuggingFaceClassifier(nn.Module):
    """A model of `transformers` as a network of one input that answers logits.

    Token ids get the attention mask that is 0 at the padding token. Images are normalized by `mean`
    and `std` of each channel, if there are any.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        columns: Sequence[int],
        padding: int | None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        """Take the model, where each class stands in its answer, and what prepares its inputs."""
        super().__init__()
        self.model: Any = model
        self.columns, self.padding = list(columns), -1 if padding is None else padding
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer `[batch, classes]` for token ids `[batch, length]` or `[batch, *image]`."""
        if self.model.main_input_name == "input_ids":
            mask = torch.ne(inputs, self.padding).long()  # [batch, length]
            answer = self.model(input_ids=inputs, attention_mask=mask)
        else:
            if len(self.mean):
                inputs = (inputs - self.mean) / self.std
            answer = self.model(pixel_values=inputs)
        logits: Tensor = answer.logits
        return logits[:, self.columns]

    def extra_repr(self) -> str:
        """Tell what else decides the answers: the configuration, which `repr` leaves out."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _VOLATILE}
        told = json.dumps(config, sort_keys=True, default=str)
        return f"columns={self.columns}, padding={self.padding}, config={told}"


def is_hugging_face(model: object) -> bool:
    """Tell whether a module is a classifier of `transformers`."""
    return hasattr(getattr(model, "config", None), "id2label") and hasattr(model, "main_input_name")


def is_hugging_face_folder(path: Path) -> bool:
    """Tell whether a folder holds a model of `transformers`."""
    return (path / "config.json").is_file()


def make_hugging_face_teacher(
    model: Any,  # noqa: ANN401 (transformers may be absent)
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers,
    precision: Precision,
    padding: int | None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> NetworkTeacher:
    """Wrap a model; see `HuggingFaceClassifier`.

    Raises:
        AttarError: If it takes token ids and its padding token is unknown.
        DataError: If it is no classifier into one class, or its classes have other names.
        ShapeError: If it has another number of classes.
    """
    config, name = model.config, f"the model {type(model).__name__}"
    if model.main_input_name not in ("input_ids", "pixel_values"):
        raise DataError(
            f"expected a classifier of token ids or images, {name} takes {model.main_input_name}; "
            "wrap it in a torch module of one input"
        )
    check_class_count(config.num_labels, classes=classes, name=name)
    if config.problem_type == "multi_label_classification":
        raise DataError(f"expected one class for each example, {name} answers several at once")
    if model.main_input_name == "input_ids":
        padding = padding if padding is not None else getattr(config, "pad_token_id", None)
        if padding is None:
            raise AttarError(
                f"expected to learn the padding token of {name}; give as_teacher(..., padding=)"
            )
    columns = _find_columns(config.id2label, class_names, name)
    network = HuggingFaceClassifier(model, columns=columns, padding=padding, mean=mean, std=std)
    network.train(model.training)
    return NetworkTeacher(network, classes, answers, precision)


def open_hugging_face_teacher(
    folder: Path,
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers,
    precision: Precision,
    padding: int | None,
) -> NetworkTeacher:
    """Load a folder that `save_pretrained` wrote: from this disk, safetensors alone, no own code.

    Images are normalized by the mean and the standard deviation in its `preprocessor_config.json`;
    they must have the size that the model takes.

    Raises:
        AttarError: If `transformers` is missing; else as `make_hugging_face_teacher`.
        DataError: If the folder holds no classifier, or cannot be loaded.
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
            f"expected transformers to load {folder}, got none of {error.name}; "
            "try pip install 'attar[transformers]'"
        ) from error
    try:
        model = getattr(transformers, loader).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder} holds no model that transformers can load: {reason}") from error
    preparation = folder / "preprocessor_config.json"
    images = _read_json(preparation) if preparation.exists() else {}
    normalize = images.get("do_normalize", True)
    return make_hugging_face_teacher(
        model,
        classes=classes,
        class_names=class_names,
        answers=answers,
        precision=precision,
        padding=padding,
        mean=images.get("image_mean", ()) if normalize else (),
        std=images.get("image_std", ()) if normalize else (),
    )


def _find_columns(
    id2label: dict[int, str], class_names: Sequence[str] | None, name: str
) -> list[int]:
    """Match classes by name; by position where the model or the transfer set names none."""
    found = [id2label[index] for index in range(len(id2label))]
    numbers = [str(index) for index in range(len(found))]
    unnamed = found in ([f"LABEL_{number}" for number in numbers], numbers)
    if class_names is None or unnamed or list(class_names) == numbers:
        return list(range(len(found)))
    if sorted(found) != sorted(class_names):
        raise DataError(
            f"expected the transfer set's classes {list(class_names)[:5]}, got {found[:5]} in "
            f"{name}; set the model's config.id2label to the transfer set's names, in its order"
        )
    places = {name: place for place, name in enumerate(found)}
    return [places[each] for each in class_names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise file_error("read", path, error) from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"expected a JSON object in {path}, got {type(content).__name__}")
    return content
