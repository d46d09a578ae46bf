"""The examples of docs/python.md do what the page says they do."""

import doctest

from places import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_examples_run(monkeypatch):
    monkeypatch.setenv("EDGELLM_NO_TUNE", "1")
    failed, tried = doctest.testfile(
        str(PAGE), module_relative=False, encoding="utf-8", optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 15 and not failed
