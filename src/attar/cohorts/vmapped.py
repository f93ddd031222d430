"""Any network that `torch.func` can stack: the general path of a cohort."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap

from attar.answers import find_logits
from attar.cohorts.layers import stack
from attar.errors import AttarError
from attar.models import Dropout, MaxNormLinear
from attar.modes import frozen_layers, train_except

_REASONS = (  # a word of torch's message -> what it means
    (".item()", "its forward looks at a number in a tensor, which has one value per member here"),
    ("data-dependent", "the course of its forward depends on the data"),
    ("randomness", "it draws random numbers in a way that torch cannot repeat for each member"),
    ("inplace", "its forward changes a tensor in place that all members share"),
    ("broadcast shape", "its forward changes a tensor in place that all members share"),
    ("in-place", "its forward changes a tensor in place that all members share"),
    ("running_mean", "its batch normalization keeps running statistics that cannot be stacked"),
    ("vmap", "torch.func.vmap does not take one of its operations"),
    ("BatchedTensor", "torch.func.vmap does not take one of its operations"),
)


class StackedNetworks(nn.Module):
    """Networks of one architecture, run by `torch.func.vmap` over their stacked tensors."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Take networks of one architecture."""
        super().__init__()
        parameters = [dict(network.named_parameters()) for network in networks]
        buffers = [dict(network.named_buffers()) for network in networks]
        self._parameter_names, self._buffer_names = tuple(parameters[0]), tuple(buffers[0])
        # A ParameterList, because names of nested layers have dots, which torch does not allow.
        self.parameter_list = nn.ParameterList(
            stack([each[name] for each in parameters]) for name in self._parameter_names
        )
        for place, name in enumerate(self._buffer_names):
            self.register_buffer(f"buffer_{place}", torch.stack([each[name] for each in buffers]))
        self._runner = (_with_torch_dropout(networks[0]),)  # in a tuple: no part of this module
        self._frozen = frozen_layers(self._runner[0])

    def forward(self, inputs: Tensor) -> Shaped[Tensor, "members batch *rest"]:
        """Show all members the same batch.

        Raises:
            AttarError: If the networks do what `torch.func` cannot do for several at once.
        """
        (runner,) = self._runner
        if self.training:
            train_except(runner, self._frozen)
        else:
            runner.eval()
        name = f"the network {type(runner).__name__}"

        def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return find_logits(functional_call(runner, (parameters, buffers), (inputs,)), name)

        parameters = dict(zip(self._parameter_names, self.parameter_list, strict=True))
        try:
            logits: Tensor = vmap(run, randomness="different")(parameters, self._buffers_by_name())
        except RuntimeError as error:
            raise _explain(error, runner) from error
        return logits

    def stacked(self) -> dict[str, Tensor]:
        """Return the stacked tensors by the names that they have in a member."""
        parameters = dict(zip(self._parameter_names, self.parameter_list, strict=True))
        return parameters | self._buffers_by_name()

    @torch.no_grad()
    def project(self) -> None:
        """Shorten the weight vectors of every `MaxNormLinear`, member by member."""
        stacked = self.stacked()
        for name, layer in self._runner[0].named_modules():
            if isinstance(layer, MaxNormLinear):
                weight = stacked[f"{name}.weight" if name else "weight"]
                lengths = torch.linalg.vector_norm(weight, dim=-1, keepdim=True)
                weight.mul_((layer.max_norm / lengths).clamp_(max=1))

    def _buffers_by_name(self) -> dict[str, Tensor]:
        return {
            name: self.get_buffer(f"buffer_{place}")
            for place, name in enumerate(self._buffer_names)
        }


def _with_torch_dropout(network: nn.Module) -> nn.Module:
    """Copy a network; `attar.models.Dropout` would give all members the same mask under vmap."""
    runner = copy.deepcopy(network)
    for name, layer in list(runner.named_modules()):
        if isinstance(layer, Dropout):
            plain = nn.Dropout(layer.probability).train(layer.training)
            if not name:
                return plain
            parent, _, own = name.rpartition(".")
            setattr(runner.get_submodule(parent), own, plain)
    return runner


def _explain(error: RuntimeError, network: nn.Module) -> Exception:
    message = str(error)
    reason = next((why for word, why in _REASONS if word in message), None)
    if reason is None:  # such as inputs of a wrong size: nothing to do with cohorts
        return error
    return AttarError(
        f"expected networks that torch.func can stack, got {type(network).__name__}: {reason} "
        f"({message.splitlines()[0]}); train its members one after another"
    )
