"""The report names every kind of fault, its count and its first files."""

from milan_mm.upkeep.findings import Findings


def test_a_report_without_faults_says_so():
    findings = Findings()
    findings.compare_count("images in val", 50_000, 50_000)
    assert findings.report("data") == "data: no faults\n  images in val: 50,000 of 50,000"


def test_faults_of_one_kind_are_counted_and_the_first_five_are_named():
    findings = Findings()
    findings.add("images cannot be read", "repair them", [f"{i}.jpg" for i in range(1200)])
    assert findings.report("data", "all.txt").splitlines() == [
        "data: 1 kind of faults",
        "  fault: images cannot be read (1,200): repair them",
        *(f"    - {i}.jpg" for i in range(5)),
        "    - and 1,195 more, all are in all.txt",
    ]


def test_the_listing_has_every_name():
    findings = Findings()
    findings.add("images cannot be read", "repair them", [f"{i}.jpg" for i in range(9)])
    findings.add("folders are missing", "unpack them", ["val"])
    names = [f"{i}.jpg" for i in range(9)]
    expected = ["# images cannot be read (9)", *names, "# folders are missing (1)", "val"]
    assert findings.listing().splitlines() == expected


def test_a_cause_is_reported_before_what_follows_from_it():
    findings = Findings()
    for split in ("train", "val"):
        findings.add("boxes reach beyond their image", "correct them", [split])
        findings.add("images are turned", "turn them", [split], first=True)
    assert list(findings.faults) == ["images are turned", "boxes reach beyond their image"]
    assert findings.faults["images are turned"].names == ["train", "val"]
    assert findings.report("data").startswith("data: 2 kinds of faults\n")


def test_no_names_are_no_fault():
    findings = Findings()
    findings.add("images cannot be read", "repair them", [])
    assert not findings.faults


def test_too_few_files_are_a_fault_unless_a_subset_is_allowed():
    for allowed in (False, True):
        findings = Findings(allow_subset=allowed)
        findings.compare_count("images in val", 40, 50_000)
        assert bool(findings.faults) != allowed
        assert findings.counts == ["images in val: 40 of 50,000, 49,960 fewer"]


def test_too_many_files_and_none_at_all_are_faults_of_a_subset_too():
    for found in (50_001, 0):
        findings = Findings(allow_subset=True)
        findings.compare_count("images in val", found, 50_000)
        assert findings.faults
