"""What must hold for any data: monotone transforms, flips, order, relabelling, intervals, seeds."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slow_twin import pairs

from tapfm_eval.statistics import (
    auroc,
    auroc_covariance,
    auroc_variance,
    average_precision,
    compare_auroc,
    compare_auroc_unpaired,
    compare_macro_auroc,
    macro_auroc,
    micro_auroc,
    partial_auroc,
)
from tapfm_eval.statistics.precision_recall import METHODS as PRECISION_METHODS

METHODS = ("auto", "delong", "delong-logit", "logit-t", "newcombe5", "envelope")
quick = settings(max_examples=40, derandomize=True, deadline=None)


@st.composite
def samples(draw, arms=1, smallest=2):
    """Labels and tied integer scores with at least `smallest` rows of each class, and patients."""
    n = draw(st.integers(2 * smallest + 1, 40))
    labels = np.array(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    assume(smallest <= labels.sum() <= n - smallest)
    integers = st.lists(st.integers(-6, 6), min_size=n, max_size=n)
    scores = np.array([draw(integers) for _ in range(arms)], dtype=float)
    patients = np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    return labels, scores, patients


def same(one, other, *fields):
    """Tell whether two records agree in the fields named, NaN being equal to NaN."""
    return all(
        np.isclose(getattr(one, field), getattr(other, field), rtol=1e-9, atol=1e-11, equal_nan=True)
        for field in fields
    )


@quick
@given(samples())
def test_auroc_is_the_share_of_ordered_pairs(drawn):
    labels, (scores,), _ = drawn
    assert np.isclose(auroc(labels, scores).value, pairs(labels, scores)[0].mean(), rtol=1e-13)


@quick
@given(samples(), st.sampled_from(METHODS))
def test_a_monotone_transform_changes_nothing(drawn, method):
    labels, (scores,), patients = drawn
    for options in ({}, {"clusters": patients}, {"strata": patients % 3}):
        one, other = (auroc(labels, s, method=method, **options) for s in (scores, np.arctan(scores) ** 3 - 5))
        assert one == other or same(one, other, "value", "lower", "upper")


@quick
@given(samples(), st.sampled_from(METHODS))
def test_flipped_labels_or_scores_mirror_value_and_interval(drawn, method):
    labels, (scores,), patients = drawn
    plain = auroc(labels, scores, method=method, clusters=patients)
    for mirrored in (
        auroc(1 - labels, scores, method=method, clusters=patients),
        auroc(labels, -scores, method=method, clusters=patients),
    ):
        assert np.isclose(mirrored.value, 1 - plain.value)
        assert np.allclose([mirrored.lower, mirrored.upper], [1 - plain.upper, 1 - plain.lower], equal_nan=True)


@quick
@given(samples(arms=2), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_patients_do_not_matter(drawn, random):
    labels, (first, second), patients = drawn
    order = np.array(random.sample(range(labels.size), labels.size))
    names = np.array([f"patient {99 - one}" for one in patients])
    plain = compare_auroc(labels, first, second, clusters=patients)
    moved = compare_auroc(labels[order], first[order], second[order], clusters=names[order])
    assert same(plain, moved, "value", "lower", "upper", "p_value", "df")


@quick
@given(samples(arms=2))
def test_swapping_the_arms_mirrors_the_comparison(drawn):
    labels, (first, second), patients = drawn
    for options in ({}, {"clusters": patients}, {"paired": False}):
        one, other = compare_auroc(labels, first, second, **options), compare_auroc(labels, second, first, **options)
        assert np.allclose(
            [one.value, one.lower, one.upper], [-other.value, -other.upper, -other.lower], equal_nan=True
        )
        assert same(one, other, "p_value", "df")


@quick
@given(samples(arms=3))
def test_relabelled_arms_permute_the_covariance(drawn):
    labels, scores, patients = drawn
    order = [2, 0, 1]
    plain = auroc_covariance(labels[:, None], scores[:, :, None], clusters=patients)
    moved = auroc_covariance(labels[:, None], scores[order][:, :, None], clusters=patients)
    assert np.allclose(moved.covariance, plain.covariance[np.ix_(order, order)], atol=1e-14, equal_nan=True)
    assert np.array_equal(moved.aurocs, plain.aurocs[order])


@quick
@given(samples(), st.integers(2, 4))
def test_rows_repeated_within_patients_change_nothing(drawn, times):
    labels, (scores,), _ = drawn
    once = auroc_variance(labels, scores)
    clusters = np.tile(np.arange(labels.size), times)
    again = auroc_variance(np.tile(labels, times), np.tile(scores, times), clusters=clusters)
    assert same(once, again, "auroc", "variance", "df")


@quick
@given(samples(), st.integers(2, 4))
def test_patients_repeated_as_new_patients_shrink_the_variance(drawn, times):
    """With each patient `times` over, sums of squares about the mean grow `times`-fold and the mean stays."""
    labels, (scores,), _ = drawn
    once, again = auroc_variance(labels, scores), auroc_variance(np.tile(labels, times), np.tile(scores, times))
    m, n = once.positives, once.negatives
    expected = once.positive_part * (m - 1) / (times * m - 1) + once.negative_part * (n - 1) / (times * n - 1)
    assert np.isclose(again.auroc, once.auroc)
    assert np.isclose(again.variance, expected, atol=1e-15)


@quick
@given(samples(smallest=1), st.sampled_from(METHODS), st.sampled_from([0.5, 0.95, 0.999]))
def test_an_interval_contains_its_estimate_and_stays_in_range(drawn, method, level):
    labels, (scores,), patients = drawn
    for options in ({}, {"clusters": patients}, {"strata": patients % 2}):
        found = auroc(labels, scores, method=method, level=level, **options)
        if np.isnan(found.lower) or np.isnan(found.upper):
            assert found.reason
        else:
            assert 0.0 <= found.lower <= found.value + 1e-12
            assert found.value - 1e-12 <= found.upper <= 1.0
            assert found.reason is None


@quick
@given(samples(), st.sampled_from(("auto", "logit-t", "newcombe5", "envelope")))
def test_a_higher_level_gives_a_wider_interval(drawn, method):
    labels, (scores,), _ = drawn
    narrow, wide = (auroc(labels, scores, method=method, level=level) for level in (0.8, 0.99))
    assert wide.lower <= narrow.lower + 1e-12
    assert narrow.upper <= wide.upper + 1e-12


@quick
@given(samples(arms=2), st.sampled_from(["bootstrap", "permutation"]))
def test_the_same_generator_gives_the_same_result(drawn, method):
    labels, (first, second), patients = drawn
    one, other = (
        compare_auroc(
            labels, first, second, method=method, clusters=patients, rng=np.random.default_rng(4), replicates=20
        )
        for _ in range(2)
    )
    assert repr(one) == repr(other)
    assert np.isnan(one.p_value) or one.p_value > 0


@quick
@given(samples(arms=2))
def test_the_interval_and_the_test_decide_alike(drawn):
    labels, (first, second), patients = drawn
    found = compare_auroc(labels, first, second, clusters=patients, level=0.9)
    if not np.isnan([found.lower, found.upper, found.p_value]).any() and abs(found.p_value - 0.1) > 1e-9:
        assert (found.p_value < 0.1) == (found.lower > 0 or found.upper < 0)


@quick
@given(samples(arms=2), st.permutations(range(3)))
def test_the_order_of_targets_does_not_matter_to_a_macro(drawn, order):
    labels, (first, second), patients = drawn
    rng = np.random.default_rng(9)
    many = np.stack([labels, labels[::-1], rng.permutation(labels)], axis=1)
    arms = [np.stack([scores, rng.permutation(scores), scores[::-1]], axis=1) for scores in (first, second)]
    order = list(order)
    one = macro_auroc(many, arms[0], clusters=patients)
    other = macro_auroc(many[:, order], arms[0][:, order], clusters=patients)
    assert same(one, other, "value", "lower", "upper")
    pair = compare_macro_auroc(many, *arms), compare_macro_auroc(many[:, order], *(arm[:, order] for arm in arms))
    assert same(*pair, "value", "lower", "upper", "p_value", "df")


def holds_its_estimate(found):
    """Tell whether the limits enclose the value, or are missing with a reason."""
    if np.isnan([found.value, found.lower, found.upper]).any():
        return found.reason is not None
    return found.lower - 1e-12 <= found.value <= found.upper + 1e-12


@quick
@given(samples(smallest=1), st.sampled_from(PRECISION_METHODS), st.sampled_from([0.5, 0.95, 0.999]))
def test_an_interval_of_average_precision_contains_it(drawn, method, level):
    labels, (scores,), patients = drawn
    for clusters in (None, patients):
        found = average_precision(labels, scores, method=method, level=level, clusters=clusters, replicates=20)
        assert holds_its_estimate(found)
        assert not found.lower < 0
        assert not found.upper > 1


@quick
@given(samples(smallest=1), st.sampled_from([*METHODS, "bootstrap"]), st.sampled_from([0.2, 0.95]))
def test_an_interval_over_targets_contains_its_estimate(drawn, method, level):
    labels, (scores,), patients = drawn
    many = np.stack([labels, labels[::-1]], axis=1)
    arms = np.stack([scores, scores], axis=1)
    for rule in (macro_auroc, micro_auroc):
        found = rule(many, arms, method=method, level=level, clusters=patients, replicates=20)
        assert holds_its_estimate(found)
        assert not found.lower < 0
        assert not found.upper > 1


@quick
@given(samples(arms=2, smallest=1))
def test_an_interval_of_a_difference_contains_it(drawn):
    labels, (first, second), patients = drawn
    for found in (
        compare_auroc(labels, first, second),
        compare_auroc(labels, first, second, clusters=patients, test="z"),
        compare_auroc_unpaired(labels, first, labels, second),
        compare_macro_auroc(np.stack([labels, labels[::-1]], axis=1), *(np.stack([s, s], axis=1) for s in drawn[1])),
    ):
        assert holds_its_estimate(found)
        assert np.isnan(found.p_value) or 0 <= found.p_value <= 1


@quick
@given(samples(arms=2), st.sampled_from(["delong", "bootstrap", "permutation"]))
def test_swapping_two_groups_mirrors_their_comparison(drawn, method):
    labels, (first, second), _ = drawn
    for test in ("t", "satterthwaite", "z"):
        groups = (labels, first), (labels[::-1], second)
        one, other = (
            compare_auroc_unpaired(*a, *b, test=test, method=method, replicates=20) for a, b in (groups, groups[::-1])
        )
        assert np.isclose(one.value, -other.value)
        if method == "delong":
            assert np.allclose([one.lower, one.upper], [-other.upper, -other.lower], equal_nan=True)
            assert same(one, other, "p_value", "df")


@quick
@given(samples(arms=2))
def test_every_resampling_gives_the_same_with_the_same_generator(drawn):
    labels, (first, second), patients = drawn
    many, arms = np.stack([labels, labels[::-1]], axis=1), np.stack([first, second], axis=1)
    for call in (
        lambda rng: auroc(labels, first, method="bootstrap", clusters=patients, rng=rng, replicates=20),
        lambda rng: partial_auroc(labels, first, rng=rng, replicates=20),
        lambda rng: average_precision(labels, first, method="bootstrap", rng=rng, replicates=20),
        lambda rng: macro_auroc(many, arms, method="bootstrap", rng=rng, replicates=20),
        lambda rng: micro_auroc(many, arms, method="bootstrap", rng=rng, replicates=20),
        lambda rng: compare_auroc_unpaired(labels, first, labels, second, method="permutation", rng=rng, replicates=20),
    ):
        assert repr(call(np.random.default_rng(4))) == repr(call(np.random.default_rng(4)))
