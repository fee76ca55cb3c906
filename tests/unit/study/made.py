"""Tables made by hand, that several tests read."""

import numpy as np
import pandas as pd


def long_teachers(study, seeds=1, by_seed="+0.1 +0.3"):
    """Tables of part `long_teacher`: of the brain, people too; of the knee, one of whose students failed."""
    pairs = [("best", "alone_2_31"), ("all", "alone_2_61"), ("best", "usual"), ("usual", "alone_2_31")]
    for name, test_psnr, leads in (
        ("brain_4x", (34.7, 34.0, 34.2, 34.0, 34.1, 33.9), (0.2, 0.1, 0.05, 0.15)),
        ("knee_5x", (32.0, 31.5, np.nan, 31.0, 31.0, 31.1), (0.5, np.nan, 0.4, 0.1)),
    ):
        methods = ["teacher", "best", "all", "alone_2_31", "alone_2_61", "usual"]
        controls = {"usual": "alone_2_31", "best": "alone_2_31", "all": "alone_2_61"}
        table = pd.DataFrame({"method": methods, "psnr": test_psnr}).assign(set="test")
        dataset, _, factor = name.partition("_")
        cell = {"dataset": dataset, "acceleration": float(factor.rstrip("x"))}
        table = table.assign(control=table.method.map(controls), macs_given=2e12)
        low, high = np.array(leads) - 0.15, np.array(leads) + 0.15
        said = pd.DataFrame(pairs, columns=["a", "b"]).assign(difference=leads, low=low, high=high)
        said = said.assign(
            **cell, metric="psnr", seeds=seeds, people=12, kind="phantom", by_seed=by_seed, verdict="", set="test"
        )
        if name == "brain_4x":
            table = pd.concat([table, table.assign(set="people", psnr=35.0)])
            said = pd.concat([said, said.assign(set="people", difference=[-0.3, 0.4, 0.0, -0.2], kind="real MR")])
        table.to_csv(study.table(f"{name}_long_teacher_long_teacher"), index=False)
        said.to_csv(study.table(f"{name}_long_teacher_long_teacher_significance"), index=False)


def at_rates(study):
    """Tables of part `rates`: of the heart, whose validation subjects prefer another rate of each; of the knee, of which
    a training failed."""
    methods = {  # PSNR on the validation and on the test set
        "cardiac_8x": {
            "teacher": (26.0, 25.7),
            **{"best_1": (25.8, 25.6), "best_2": (25.9, 25.5), "best_4": (25.7, 25.4)},
            **{"alone_1": (25.5, 25.2), "alone_2": (25.4, 25.3), "alone_4": (25.6, 25.15)},
        },
        "knee_5x": {
            "teacher": (33.0, 33.0),
            **{"best_1": (32.0, 31.6), "best_2": (31.9, 31.5), "best_4": (31.8, 31.4)},
            **{"alone_1": (31.6, 31.1), "alone_2": (31.7, 31.2), "alone_4": (np.nan, np.nan)},
        },
    }
    for name, rows in methods.items():
        dataset, _, factor = name.partition("_")
        cell = {"dataset": dataset, "acceleration": float(factor.rstrip("x"))}
        table = pd.DataFrame(
            [(method, *psnr) for method, psnr in rows.items()], columns=["method", "validation", "psnr"]
        )
        table["control"] = [f"alone_{m.removeprefix('best_')}" if m.startswith("best") else None for m in table.method]
        table.assign(set="test").to_csv(study.table(f"{name}_rates_rates"), index=False)
        lead = rows["best_1"][1] - rows["alone_1"][1]
        said = pd.DataFrame(
            [{"a": "best_1", "b": "alone_1", "difference": lead, "low": lead - 0.1, "high": lead + 0.1}]
        )
        said = said.assign(
            **cell, metric="psnr", seeds=1, people=8, kind="phantom", by_seed=lead, verdict="", set="test"
        )
        said.to_csv(study.table(f"{name}_rates_rates_significance"), index=False)


def sites(study):
    """Tables of part `site`: of the brain, of one seed, people too; of the knee, one of whose comparisons failed."""
    said = {
        ("teacher_of_8", "truth_8"): (-0.16, -0.27, -0.06),
        ("teacher_of_8", "truth_2"): (0.28, 0.1, 0.5),
        ("teacher_of_8", "sent"): (0.03, -0.1, 0.1),
        ("by_set_1_8", "truth_8"): (-2.0, -2.4, -1.6),
        ("by_set_1_8", "teacher_of_8"): (-9.0, -9.1, -8.9),
        ("teacher_of_4", "truth_4"): (7.0, 6.0, 8.0),
    }
    rows = [(*pair, *values) for pair, values in said.items()]
    tests = pd.DataFrame(rows, columns=["a", "b", "difference", "low", "high"]).assign(
        set="test", metric="psnr", seeds=1, people=12
    )
    tests["by_seed"] = tests.difference.map("{:+.2f}".format)
    elsewhere = tests.assign(set="people", difference=5.0)
    table = pd.DataFrame({"method": ["truth_2", "truth_4", "truth_8"]}).assign(set="test")
    for name in ("brain", "knee"):
        table.to_csv(study.table(f"{name}_site_site"), index=False)
    pd.concat([tests, elsewhere]).to_csv(study.table("brain_site_site_significance"), index=False)
    tests.assign(difference=[0.1, np.nan, *[0.2] * 4], low=0.05, high=0.5, seeds=3, by_seed="0.0 +0.1 +0.2").to_csv(
        study.table("knee_site_site_significance"), index=False
    )
