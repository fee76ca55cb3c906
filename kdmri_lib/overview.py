"""What a prepared file holds, at a glance: an index (CSV) and a contact sheet (PNG) beside it."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from kdmri_lib.storage import atomic_write

MOST_PICTURES = 60
FIRST = ("train", "validation", "test")  # of the contact sheet's groups; then the others, small ones first


def index(path: Path) -> pd.DataFrame:
    """A table, one row per volume: subject, person, split, slices, size, and every attribute that its source gave."""
    rows = []
    with h5py.File(path) as file:
        for name, data in sorted(file["volumes"].items()):
            given = {k: _plain(v) for k, v in data.attrs.items() if k != "sha256"}
            about = {"subject": name, "person": given.pop("person", name), "split": given.pop("split")}
            rows.append({**about, "slices": len(data), "size": f"{data.shape[1]}×{data.shape[2]}", **given})
    return pd.DataFrame(rows)


def _plain(value):
    return " × ".join(f"{v:.4g}" for v in value) if isinstance(value, np.ndarray) else value


def contact_sheet(path: Path):
    """Matplotlib figure of the middle slice of every volume (of 60 where there are more): it shows a wrong crop."""
    from kdmri_lib import figures

    with h5py.File(path) as file:
        splits = {name: str(data.attrs["split"]) for name, data in file["volumes"].items()}
        sizes = Counter(splits.values())
        order = sorted(
            sizes, key=lambda split: (FIRST.index(split) if split in FIRST else len(FIRST), sizes[split], split)
        )
        names = sorted(splits, key=lambda name: (order.index(splits[name]), name))
        chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_PICTURES)).round().astype(int))
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name in (names[n] for n in chosen):
            data = file["volumes"][name]
            groups.setdefault(splits[name], {})[name] = data[len(data) // 2]
    dataset = path.stem.rpartition("-")[0] or path.stem  # without its digest
    shown = "each volume" if len(chosen) == len(names) else f"{len(chosen)} of {len(names)} volumes"
    return figures.contact_sheet(groups, f"Data set {dataset}: the middle slice of {shown}")


def write_overview(path: Path) -> None:
    """Write the index and the contact sheet, at `path` with .csv and .png in place of its suffix."""
    import matplotlib.pyplot as plt

    with atomic_write(path.with_suffix(".csv")) as temporary:
        index(path).to_csv(temporary, index=False)
    figure = contact_sheet(path)
    with atomic_write(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
