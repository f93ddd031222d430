"""The soft-target store: a teacher's logits on disk, to be read at any temperature."""

from attar.targets.encoding import Dense, Encoding, Sparse
from attar.targets.inspection import CostAtTemperature, StoreSummary, inspect
from attar.targets.manifest import Shard, ShardEntry, StorePlan, View
from attar.targets.merging import merge
from attar.targets.quality import TeacherQuality
from attar.targets.store import SoftTargets
from attar.targets.writer import TargetWriter

__all__ = [
    "CostAtTemperature",
    "Dense",
    "Encoding",
    "Shard",
    "ShardEntry",
    "SoftTargets",
    "Sparse",
    "StorePlan",
    "StoreSummary",
    "TargetWriter",
    "TeacherQuality",
    "View",
    "inspect",
    "merge",
]
