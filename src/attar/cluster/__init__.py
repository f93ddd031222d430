"""More than one machine: labeling and training on Ray. The only part that imports it."""

from attar.cluster.labeling import label

__all__ = ["label"]
