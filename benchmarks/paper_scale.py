"""The paper's two large cases by the model of `attar plan --on ray`: the table of docs/scaling.md.

python benchmarks/paper_scale.py
"""

from attar.jobs.scaling import LabelingCost, scale_labeling

PAPER = {  # a worker is a core at 35 GFLOP/s, or a GPU at 50 TFLOP/s; see docs/scaling.md
    "speech, dense": (700e6, 10, 169e6, 28_000, 4160, 1198),
    "speech, k = 32": (700e6, 10, 169e6, 154, 4160, 65_536),
    "JFT, dense": (100e6, 1, 8.2e9, 30_000, 100_000, 1118),
    "JFT, k = 32": (100e6, 1, 8.2e9, 154, 100_000, 65_536),
}
RATES = {"cores": (35e9, (1000, 10_000)), "GPUs": (50e12, (8, 64))}


def main() -> None:
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


if __name__ == "__main__":
    main()
