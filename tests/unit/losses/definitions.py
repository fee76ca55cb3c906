"""Each loss as its authors define it, in float64 NumPy, sample by sample."""

import numpy as np

from tests.unit.losses.made import ERRORS, PAIRS


def maps_of(student, teacher):
    """The student's and the teacher's map of each pair."""
    return [[p.features[n].detach().double().numpy() for p, n in ((student, s), (teacher, t))] for t, s in PAIRS]


def attention(student, teacher, variant):
    """Eq. 3, or what the published code computes."""
    total = 0.0
    for pair in maps_of(student, teacher):
        maps = [(feature**2).sum(1).reshape(len(feature), -1) for feature in pair]
        if variant == "paper":
            unit = [q / np.linalg.norm(q, axis=1, keepdims=True) for q in maps]
            total += np.linalg.norm(unit[0] - unit[1], axis=1).mean()
        else:
            unit = [q / np.maximum(np.linalg.norm(q, axis=0, keepdims=True), 1e-12) for q in maps]
            total += np.abs(unit[0] - unit[1]).mean() / len(PAIRS)
    return total


def of_features(name, target, student, teacher):
    """The other losses on features, by their names."""
    x, x_t = (v.detach().double().numpy() for v in (target, teacher.image))
    maps = maps_of(student, teacher)
    batch, eta = len(x), float(ERRORS.max() - ERRORS.min())
    if name == "fitnets":
        return sum(0.5 * ((t - s) ** 2).mean() for s, t in maps)
    if name == "attentive_hint":
        trust = [max(0.0, 1 - ((x_t[i] - x[i]) ** 2).mean() / eta) for i in range(batch)]
        return sum(np.mean([trust[i] * ((t[i] - s[i]) ** 2).mean() for i in range(batch)]) for s, t in maps)
    if name == "fsp":
        (s1, t1), (s2, t2) = maps
        flows = [np.einsum("chw,dhw->cd", a[i], b[i]) / 24 for i in range(batch) for a, b in ((t1, t2), (s1, s2))]
        return np.mean([((t - s) ** 2).sum() for t, s in zip(flows[::2], flows[1::2], strict=True)])
    if name == "similarity_preserving":

        def similarity(a):
            gram = np.array([[(a[i] * a[j]).sum() for j in range(batch)] for i in range(batch)])
            return gram / np.linalg.norm(gram, axis=1, keepdims=True)

        return sum(((similarity(t) - similarity(s)) ** 2).sum() / batch**2 for s, t in maps)
    if name == "correlation_congruence":

        def kernel(a):
            unit = [v.ravel() / np.linalg.norm(v) for v in a]
            z = 0.8 * np.array([[u @ v for v in unit] for u in unit])
            return np.exp(-0.8) * (1 + z + z**2 / 2)

        return sum(((kernel(t) - kernel(s)) ** 2).sum() / batch**2 for s, t in maps)
    raise NotImplementedError(name)
