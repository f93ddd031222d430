"""What a comparison of models leaves behind: records, and the sentences that they make."""

from attar.comparison_records.records import (
    NO_ANSWER,
    Agreement,
    ComparisonRecord,
    GapClosed,
    Interval,
    ModelResult,
    NetworkResult,
    Outcome,
    ReliabilityBin,
    Role,
    Speed,
    TeacherAgreement,
    Test,
    Verdict,
    count_confusions,
    reverse,
)
from attar.comparison_records.sentences import tell, tell_verdict, warn

__all__ = [
    "NO_ANSWER",
    "Agreement",
    "ComparisonRecord",
    "GapClosed",
    "Interval",
    "ModelResult",
    "NetworkResult",
    "Outcome",
    "ReliabilityBin",
    "Role",
    "Speed",
    "TeacherAgreement",
    "Test",
    "Verdict",
    "count_confusions",
    "reverse",
    "tell",
    "tell_verdict",
    "warn",
]
