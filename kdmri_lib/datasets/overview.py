"""What a prepared file holds, at a glance: an index (CSV) and a contact sheet (PNG) beside it."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.files import whole_file

MOST_PICTURES = 60


def index(path: Path) -> pd.DataFrame:
    """A row a volume: subject, person, split, slices, size, mean, and every attribute that its source gave."""
    rows = []
    for v in read_prepared(path):
        given = {k: _plain(a) for k, a in v.attributes.items() if k not in ("sha256", "person")}
        rows.append(
            {
                "subject": v.subject,
                "person": v.attributes.get("person", v.subject),
                "split": v.split,
                "slices": len(v.image),
                "size": f"{v.image.shape[1]}×{v.image.shape[2]}",
                "mean": round(float(v.image.mean()), 4),
                **given,
            }
        )
    return pd.DataFrame(rows)


def _plain(value):
    return " × ".join(f"{v:.4g}" for v in value) if isinstance(value, np.ndarray) else value


def contact_sheet(path: Path):
    """Figure of the middle slice of every volume (evenly chosen where there are many), so that a wrong crop is seen."""
    from kdmri_lib import figures

    with h5py.File(path) as file:
        names = sorted(file["volumes"], key=lambda name: (file["volumes"][name].attrs["split"], name))
        chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_PICTURES)).round().astype(int))
        pictures = {}
        for name in (names[n] for n in chosen):
            data = file["volumes"][name]
            pictures[f"{data.attrs['split']}\n{name}"] = data[len(data) // 2]
    return figures.contact_sheet(pictures, f"{path.stem}: middle slice of {len(pictures)} of {len(names)} volumes")


def write_overview(path: Path) -> None:
    """Write `path` with .csv and .png in place of its suffix."""
    import matplotlib.pyplot as plt

    with whole_file(path.with_suffix(".csv")) as temporary:
        index(path).to_csv(temporary, index=False)
    figure = contact_sheet(path)
    with whole_file(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
