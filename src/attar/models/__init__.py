"""Networks that attar's recipes train. Any other `nn.Module` that returns logits does as well."""

from attar.models.acoustic import acoustic_dnn
from attar.models.conv_net import ConvNet, conv_net
from attar.models.dropout import Dropout
from attar.models.mlp import MaxNormLinear, apply_max_norm, mlp
from attar.models.stacked import clip_members, count_stacked_members, member_norms

__all__ = [
    "ConvNet",
    "Dropout",
    "MaxNormLinear",
    "acoustic_dnn",
    "apply_max_norm",
    "clip_members",
    "conv_net",
    "count_stacked_members",
    "member_norms",
    "mlp",
]
