"""Networks that attar's recipes train. Any other `nn.Module` that returns logits does as well."""

from attar.models.dropout import Dropout
from attar.models.mlp import MaxNormLinear, apply_max_norm, mlp

__all__ = ["Dropout", "MaxNormLinear", "apply_max_norm", "mlp"]
