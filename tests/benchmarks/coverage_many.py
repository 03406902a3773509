"""Coverage of AUROCs over several targets, slides or folds, through the public functions, by seeded simulation."""

import numpy as np
from coverage_samples import FLOOR, PATIENTS, Floats
from scipy.special import ndtri

from tapfm_eval.statistics import auroc, auroc_covariance, compare_auroc, contrast, macro_auroc, micro_auroc


def macro(simulations: int) -> list[str]:
    """Print coverage of the macro intervals and type I error of the macro comparison, four correlated targets."""
    methods = ("delong", "delong-logit", "logit-t", "auto")
    heading = "".join(f" {method} |" for method in methods)
    print(f"\n| patients | rare targets | shape, AUROC | labels missing |{heading} auto width | comparison, t | z |")
    print(f"|---|---|---|---|{'---|' * (len(methods) + 3)}")
    designs = [
        (300, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.70, 0.1),
        (300, (0.26, 0.27, 0.03, 0.02), "equal spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "double spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "double spread", 0.95, 0.1),
        (300, (0.26, 0.27, 0.03, 0.02), "equal spread", 0.95, 0.1),
        (1000, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.85, 0.0),
    ]
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for index, (patients, prevalences, shape, auc, missing) in enumerate(designs):
        rng = np.random.default_rng([5, index])
        covered, width, rejected, used = np.zeros(len(methods)), 0.0, np.zeros(2), 0
        sd = 2.0 if shape == "double spread" else 1.0
        shift = np.sqrt(1.0 + sd**2) * ndtri(auc)
        while used < simulations:
            factor = rng.standard_normal((patients, 1))
            latent = np.sqrt(0.25) * factor + np.sqrt(0.75) * rng.standard_normal((patients, 4))
            truth = latent > -ndtri(np.array(prevalences))
            labels = np.where(rng.random(truth.shape) < missing, np.nan, truth)
            if not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).all():
                continue  # not estimable, and said so; coverage is among samples that have an estimate
            used += 1
            shared = 0.6 * rng.standard_normal((patients, 1))
            noise = shared + np.sqrt(0.32) * (
                rng.standard_normal((2, patients, 4)) + rng.standard_normal((patients, 4))
            )
            scores = np.where(truth, shift + sd * noise, noise)
            for position, method in enumerate(methods):
                found = macro_auroc(labels, scores[0], method=method)
                covered[position] += found.lower <= auc <= found.upper
                width += (found.upper - found.lower) if method == "auto" else 0.0
            both = auroc_covariance(labels, scores)  # as `compare_macro_auroc`, once for both tests
            weights = np.full((2, 4), 0.25) * [[1.0], [-1.0]]
            for position, test in enumerate(("t", "z")):
                rejected[position] += contrast(both, weights, test=test).p_value < 0.05
        rates = covered / simulations
        cells = "".join(f" {rate:.3f} |" for rate in rates)
        rare = "/".join(f"{round(100 * prevalence)}" for prevalence in prevalences[2:])
        tail = f" {width / simulations:.2f} | {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |"
        print(f"| {patients} | {rare} % | {shape}, {auc:.2f} | {missing:.0%} |{cells}{tail}", flush=True)
        if rates[-1] < FLOOR - 2 * error:
            short.append(f"macro design {index}: auto covers {rates[-1]:.3f}")
    return short


def clustered(simulations: int) -> list[str]:
    """Print coverage with several slides a patient (label of the patient), and the paired clustered test."""
    methods = ("delong", "delong-logit", "logit-t", "auto")
    heading = "".join(f" {method} |" for method in methods)
    print(f"\n| positive of 120 patients | AUROC |{heading} auto width | plain DeLong | paired t | z |")
    print(f"|---|---|{'---|' * (len(methods) + 4)}")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for auc in (0.75, 0.90):
        for positives in (3, 5, 10, 20, 40):
            rng = np.random.default_rng([6, round(100 * auc), positives])
            covered, naive, width, rejected = np.zeros(len(methods)), 0, 0.0, np.zeros(2)
            for _ in range(simulations):
                patient = np.repeat(np.arange(120), 1 + rng.poisson(1.2, 120))
                labels = patient < positives
                own = rng.standard_normal(120)[patient]
                noise = 0.8 * own + 0.6 * rng.standard_normal((2, patient.size))
                scores = noise + np.sqrt(2.0) * ndtri(auc) * labels
                for position, method in enumerate(methods):
                    found = auroc(labels, scores[0], method=method, clusters=patient)
                    covered[position] += found.lower <= auc <= found.upper
                    width += (found.upper - found.lower) if method == "auto" else 0.0
                plain = auroc(labels, scores[0], method="delong")
                naive += plain.lower <= auc <= plain.upper
                for position, test in enumerate(("t", "z")):
                    found_p = compare_auroc(labels, *scores, clusters=patient, test=test).p_value
                    rejected[position] += found_p < 0.05
            rates = covered / simulations
            cells = "".join(f" {rate:.3f} |" for rate in rates)
            tail = f" {width / simulations:.2f} | {naive / simulations:.3f} |"
            tail += f" {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |"
            print(f"| {positives} | {auc:.2f} |{cells}{tail}", flush=True)
            if rates[-1] < FLOOR - 2 * error:
                short.append(f"clustered, AUROC {auc}, {positives} patients: auto covers {rates[-1]:.3f}")
    return short


def strata_and_micro(simulations: int) -> list[str]:
    """Print coverage of the fold-stratified AUROC (folds of shifted scores) and of the micro AUROC."""
    print("\n| design | positives | logit-t | auto | auto width |\n|---|---|---|---|---|")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)

    def report(name: str, positives: str, covered: Floats, width: float) -> None:
        rates = covered / simulations
        print(f"| {name} | {positives} | {rates[0]:.3f} | {rates[1]:.3f} | {width / simulations:.2f} |", flush=True)
        if rates[1] < FLOOR - 2 * error:
            short.append(f"{name}, {positives} positives: auto covers {rates[1]:.3f}")

    for positives in (5, 10, 20, 50):
        rng = np.random.default_rng([7, positives])
        covered, width = np.zeros(2), 0.0
        labels = np.arange(PATIENTS) < positives
        for _ in range(simulations):
            folds = np.concatenate([rng.permutation(np.arange(size) % 5) for size in (positives, PATIENTS - positives)])
            offsets = rng.standard_normal(5)[folds]
            scores = rng.standard_normal(PATIENTS) + np.sqrt(2.0) * ndtri(0.85) * labels + offsets
            for position, method in enumerate(("logit-t", "auto")):
                found = auroc(labels, scores, method=method, strata=folds)
                covered[position] += found.lower <= 0.85 <= found.upper
            width += found.upper - found.lower
        report("5 folds, AUROC .85", str(positives), covered, width)
    # no closed form: the mean of large samples, to about 0.0002
    large = [_micro_sample(400_000, np.random.default_rng([8, 0, index])) for index in range(8)]
    truth = float(np.mean([micro_auroc(*one, method="delong").value for one in large]))
    for patients in (60, 150, 300):
        rng = np.random.default_rng([8, patients])
        covered, width = np.zeros(2), 0.0
        for _ in range(simulations):
            labels_2d, scores_2d = _micro_sample(patients, rng)
            for position, method in enumerate(("logit-t", "auto")):
                found = micro_auroc(labels_2d, scores_2d, method=method)
                covered[position] += found.lower <= truth <= found.upper
            width += found.upper - found.lower
        report(f"micro of 4 targets, {patients} patients", f"about {round(0.64 * patients)}", covered, width)
    return short


def _micro_sample(patients: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    latent = 0.5 * rng.standard_normal((patients, 1)) + np.sqrt(0.75) * rng.standard_normal((patients, 4))
    labels = latent > -ndtri(np.array([0.26, 0.27, 0.06, 0.05]))
    noise = 0.6 * rng.standard_normal((patients, 1)) + 0.8 * rng.standard_normal((patients, 4))
    return labels.astype(np.float64), 1.1 * labels + noise
