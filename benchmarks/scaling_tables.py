"""The tables of docs/scaling.md: the paper's two large cases by the model, and what was measured.

    python benchmarks/scaling_tables.py

The first comes from the model of `attar plan --on ray`, the others from cluster.json, which
`python benchmarks/cluster.py --out benchmarks/cluster.json` writes.
"""

import json
from pathlib import Path

from attar.jobs.scaling import LabelingCost, scale_labeling

MEASURED = Path(__file__).with_name("cluster.json")
PAPER = {  # a worker is a core at 35 GFLOP/s, or a GPU at 50 TFLOP/s; see docs/scaling.md
    "speech, dense": (700e6, 10, 169e6, 28_000, 4160, 1198),
    "speech, k = 32": (700e6, 10, 169e6, 154, 4160, 65_536),
    "JFT, dense": (100e6, 1, 8.2e9, 30_000, 100_000, 1118),
    "JFT, k = 32": (100e6, 1, 8.2e9, 154, 100_000, 65_536),
}
RATES = {"cores": (35e9, (1000, 10_000)), "GPUs": (50e12, (8, 64))}


def show_paper() -> None:
    for name, (examples, asked, operations, row, read_bytes, shard) in PAPER.items():
        for kind, (rate, counts) in RATES.items():
            cost = LabelingCost(int(examples), asked, operations / rate, row, read_bytes, shard)
            for count in counts:
                found = scale_labeling(cost, count)
                print(
                    f"| {name} | {cost.store_bytes / 1e12:.3g} TB | {cost.shards:,} | "
                    f"{cost.worker_seconds / 3600:,.3g} | {count:,} {kind} | "
                    f"{found.seconds / 3600:,.2g} h | {found.write_rate / 1e6:,.3g} | "
                    f"{found.read_rate / 1e6:,.3g} | {found.bottleneck.partition(':')[0]} |"
                )


def show_measured() -> None:
    known = json.loads(MEASURED.read_text())
    for workers, each in known.get("overhead", {}).items():
        ray, model = each["ray_rows_per_second"], each["model_rows_per_second"]
        print(
            f"| {workers} | {each['plain_rows_per_second']:,.0f} | {ray:,.0f} | "
            f"{100 * each['overhead']:.1f} % | {model:,.0f} | {100 * (model / ray - 1):+.0f} % |"
        )
    for examples, each in known.get("memory", {}).items():
        print(
            f"| {int(examples):,} | {each['driver_bytes'] / 1e6:,.0f} | "
            f"{each['worker_bytes'] / 1e6:,.0f} | {each['seconds']:,.1f} | "
            f"{each['model_seconds']:,.1f} |"
        )
    if "driver" in known:
        print(f"{known['driver']['shards_per_second']:,.0f} shards of one row a second")


if __name__ == "__main__":
    show_paper()
    if MEASURED.exists():
        show_measured()
