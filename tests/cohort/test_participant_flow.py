"""Who leaves is counted once, as a slide and as a patient."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.cohort.flow import depart, first_step

MEMBERS = st.sets(
    st.tuples(st.sampled_from("ABCDEF"), st.sampled_from(["", "s1", "s2", "s3"])).map(
        lambda pair: (pair[0], pair[1] and pair[0] + pair[1])
    ),
    max_size=15,
)


def test_a_patient_who_keeps_a_slide_stays():
    before = [("A", "1"), ("A", "2"), ("B", "3")]
    departure = depart("c", "readable", before, [("A", "2")], "slides", "broken")
    assert (departure.step.patients, departure.step.slides) == (1, 1)
    assert (departure.step.excluded_patients, departure.step.excluded_slides) == (1, 2)
    assert [(one.patient_id, one.slide_id) for one in departure.exclusions] == [("A", "1"), ("B", ""), ("B", "3")]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(MEMBERS, st.data())
def test_steps_and_exclusions_add_up(before, data):
    after = {member for member in sorted(before) if data.draw(st.booleans())}
    first = first_step("c", "in the manifest", before)
    departure = depart("c", "next", before, after, "manifest", "why")
    step = departure.step
    assert step.patients + step.excluded_patients == first.patients
    assert step.slides + step.excluded_slides == first.slides
    kinds = Counter(bool(one.slide_id) for one in departure.exclusions)
    assert (kinds[False], kinds[True]) == (step.excluded_patients, step.excluded_slides)
    assert len({(one.patient_id, one.slide_id) for one in departure.exclusions}) == len(departure.exclusions)
    assert {one.reason for one in departure.exclusions} <= {"why"}
