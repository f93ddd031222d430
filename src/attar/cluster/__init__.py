"""More than one machine: labeling and training on Ray. The only part that imports it."""

from attar.cluster.labeling import label
from attar.cluster.starting import Cluster, import_ray
from attar.cluster.student import distill
from attar.cluster.trainings import do_all, map_fn

__all__ = ["Cluster", "distill", "do_all", "import_ray", "label", "map_fn"]
