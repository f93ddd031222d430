"""Training through a large output layer without keeping more than one `[batch, classes]` matrix."""

from dataclasses import replace

from torch import Tensor, nn

from attar.data import Batch
from attar.losses import output_layer_loss
from attar.training.loop import LossFn


class LargeOutput(nn.Module):
    """Two halves of a network, for `TrainingRun`: in training they answer features, else logits.

    Its loss is one that `through_output_layer` makes. Its weights have the names that they have in
    an `attar.models.ConvNet` of the same halves.
    """

    def __init__(self, trunk: nn.Module, output: nn.Linear) -> None:
        """Take the halves, which are trained in place.

        Args:
            trunk: Inputs -> features `[batch, features]`.
            output: Features -> logits `[batch, classes]`.
        """
        super().__init__()
        self.trunk, self.output = trunk, output

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features `[batch, features]` in training, logits `[batch, classes]` otherwise."""
        features: Tensor = self.trunk(inputs)
        return features if self.training else self.output(features)


def through_output_layer(output: nn.Linear, loss_fn: LossFn) -> LossFn:
    """Turn a loss of logits into one of features, which goes through the output layer itself.

    Args:
        output: The layer.
        loss_fn: The mean, over the examples of a batch, of a number for each that depends on no
            other example: as all of attar's, on hard targets or on those of a store.

    Returns:
        Features and batch -> the same loss, with the same gradients.
    """

    def of_features(features: Tensor, batch: Batch) -> Tensor:
        def of_rows(logits: Tensor, rows: slice) -> Tensor:
            part = replace(
                batch,
                inputs=batch.inputs[rows],
                hard_targets=batch.hard_targets[rows],
                indices=batch.indices[rows],
            )
            return loss_fn(logits, part).expand(len(logits))  # their sum is that of the examples

        return output_layer_loss(features, output.weight, output.bias, of_rows).mean()

    return of_features
