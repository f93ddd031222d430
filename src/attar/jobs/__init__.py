"""The job file: a whole distillation, step by step, from `job.toml`."""

from attar.jobs.file import Job, read_job
from attar.jobs.running import PARTS, Part, run_job
from attar.jobs.steps import JobProgress

__all__ = ["PARTS", "Job", "JobProgress", "Part", "read_job", "run_job"]
