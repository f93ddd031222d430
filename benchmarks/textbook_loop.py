"""The MNIST job as most people would write it in PyTorch: what attar is timed against.

float32, a `DataLoader` over a `Dataset` that answers one example, jitter an example at a time,
`nn.Dropout`, torch's optimizers as they come, and the teacher run at every step of the student.
"""

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


class MnistDataset(Dataset):
    def __init__(self, images: torch.Tensor, labels: torch.Tensor, jitter: int = 0) -> None:
        self.images, self.labels, self.jitter = images, labels, jitter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index].float() / 255
        if self.jitter:
            padded = F.pad(image, [self.jitter] * 4)
            top, left = random.randint(0, 2 * self.jitter), random.randint(0, 2 * self.jitter)
            image = padded[top : top + 28, left : left + 28]
        return image.reshape(-1), int(self.labels[index])


def make_teacher(units: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.1),
        nn.Linear(784, units),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(units, 10),
    )


def make_student(units: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, units),
        nn.ReLU(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Linear(units, 10),
    )


def clip_weights(model: nn.Module, max_norm: float) -> None:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.out_features > 10:
                module.weight.copy_(torch.renorm(module.weight, p=2, dim=0, maxnorm=max_norm))


def train_teacher_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.SGD) -> None:
    model.train()
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clip_weights(model, max_norm=2.0)


def train_student_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    teacher: nn.Module | None = None,
    temperature: float = 20.0,
    hard_weight: float = 1.0,
) -> None:
    model.train()
    for images, labels in loader:
        logits = model(images)
        if teacher is None:
            loss = F.cross_entropy(logits, labels)
        else:
            teacher.eval()
            with torch.no_grad():
                teacher_logits = teacher(images)
            soft = F.kl_div(
                F.log_softmax(logits / temperature, dim=1),
                F.softmax(teacher_logits / temperature, dim=1),
                reduction="batchmean",
            )
            loss = temperature**2 * soft + hard_weight * F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def make_loader(
    images: torch.Tensor, labels: torch.Tensor, *, batch_size: int, jitter: int, workers: int
) -> DataLoader:
    dataset = MnistDataset(images, labels, jitter)
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=workers)


def make_sgd(model: nn.Module, learning_rate: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, nesterov=True)


def make_adamw(model: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
