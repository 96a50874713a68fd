"""Read a study with pandas and with Optuna's own tools.

    python examples/read_study.py committee [--studies-dir studies] [--out figures]

Prints the smallest committee within a point of the best, for each configuration, and which settings mattered; writes
two of Optuna's figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import optuna

from tlm_search import Study


def main() -> None:
    """Read the study named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", help="a study's name or folder")
    parser.add_argument("--studies-dir", default="studies")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures")
    given = parser.parse_args()
    study = Study.open(given.study, studies_dir=given.studies_dir)
    print(study)

    # For each configuration: the smallest committee within one point of its largest, on validation.
    frontier = study.frontier().query("trial >= 0")
    best = frontier.groupby("configuration")["validation_metric"].transform("max")
    enough = frontier[frontier["validation_metric"] >= best - 0.01].groupby("configuration", sort=False).head(1)
    print(enough[["configuration", "size", "test_metric", "latency_ms"]].to_string(index=False))

    # Optuna's tools work on a copy, so the study itself cannot be changed by accident.
    copy = study.optuna_study()
    target = {} if len(copy.directions) == 1 else {"target": lambda trial: trial.values[0]}
    for name, value in optuna.importance.get_param_importances(copy, **target).items():
        print(f"{name}: {value:.0%} of the variance")
    given.out.mkdir(parents=True, exist_ok=True)
    names = {"target_name": study.record.objectives[0], **target}
    optuna.visualization.plot_slice(copy, **names).write_html(given.out / "slice.html")
    optuna.visualization.plot_edf(copy, **names).write_html(given.out / "edf.html")


if __name__ == "__main__":
    main()
