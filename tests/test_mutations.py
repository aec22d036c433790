"""Each fault of tools/mutations.py can still be planted; the tool itself says which test finds it."""

from mutations import FAULTS, ROOT


def test_each_fault_has_its_line_and_its_tests():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20
    for fault in FAULTS:
        source = (ROOT / "jaxcd" / fault.file).read_text()
        assert source.count(fault.line) == 1, f"{fault.name}: {fault.file} holds {fault.line!r} not once"
        assert all((ROOT / test.partition("::")[0]).exists() for test in fault.tests.split()), fault.name
