"""The job file: a whole distillation, step by step, from `job.toml`."""
