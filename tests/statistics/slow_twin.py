"""The obvious versions that judge the fast ones: every pair compared, every patient looped over."""

import numpy as np


def pairs(labels, scores):
    """Give V10 of the positives and V01 of the negatives by comparing all pairs."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    return wins.mean(axis=1), wins.mean(axis=0)


def delong(labels, scores):
    """Give AUROC, S10/m and S01/n."""
    v10, v01 = pairs(labels, scores)
    return v10.mean(), v10.var(ddof=1) / v10.size, v01.var(ddof=1) / v01.size


def obuchowski(labels, scores, patients):
    """Give AUROC and variance after Obuchowski 1997, patient by patient."""
    v10, v01 = pairs(labels, scores)
    theta = v10.mean()
    of_positive, of_negative = patients[labels == 1], patients[labels == 0]
    everyone = sorted(set(patients.tolist()))
    a = np.array([sum(v10[of_positive == one] - theta) for one in everyone])
    b = np.array([sum(v01[of_negative == one] - theta) for one in everyone])
    i10, i01, i = len(set(of_positive.tolist())), len(set(of_negative.tolist())), len(everyone)
    m, n = v10.size, v01.size
    s10, s01 = i10 / ((i10 - 1) * m) * sum(a**2), i01 / ((i01 - 1) * n) * sum(b**2)
    s11 = i / (i - 1) * sum(a * b)
    return theta, s10 / m + s01 / n + 2 * s11 / (m * n)


def stratified(labels, scores, strata):
    """Give the pair-weighted mean of the strata's AUROCs, and the variance with placements pooled within strata.

    The positive part is sum_k c_k^2 SS_k, c_k the weight of one positive, made unbiased for placements that vary alike
    in all strata: x sum_k c_k^2 m_k / sum_k c_k^2 (m_k - 1). The negative part likewise.
    """
    kept = [k for k in np.unique(strata) if {0, 1} <= set(labels[strata == k])]
    total = sum((labels[strata == k] == 1).sum() * (labels[strata == k] == 0).sum() for k in kept)
    theta = 0.0
    parts = np.zeros((2, 3))  # class; sum of squares, c^2 size, c^2 (size - 1)
    for k in kept:
        v10, v01 = pairs(labels[strata == k], scores[strata == k])
        theta += v10.size * v01.size / total * v10.mean()
        for side, own, other in ((0, v10, v01), (1, v01, v10)):
            c = other.size / total
            parts[side] += c**2 * np.array([((own - own.mean()) ** 2).sum(), own.size, own.size - 1])
    return theta, float(sum(squares * full / reduced for squares, full, reduced in parts))


def covariance(labels, scores):
    """Give the covariance over arms x targets from influence values, looping over components (no clusters)."""
    arms, n, targets = scores.shape
    psi = np.zeros((arms * targets, n))
    for arm in range(arms):
        for target in range(targets):
            known = ~np.isnan(labels[:, target])
            y, s = labels[known, target], scores[arm, known, target]
            v10, v01 = pairs(y, s)
            own = np.zeros(y.size)
            own[y == 1] = (v10 - v10.mean()) / np.sqrt(v10.size * (v10.size - 1))
            own[y == 0] = (v01 - v01.mean()) / np.sqrt(v01.size * (v01.size - 1))
            psi[arm * targets + target, known] = own
    return psi @ psi.T
