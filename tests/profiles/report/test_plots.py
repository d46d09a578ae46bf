"""Plots as their readers parse them: the SVG's elements by an XML parser."""

from xml.etree import ElementTree

from edgellm.profiles.report.plots import plot


def test_a_line_is_named_at_its_end():
    axis = plot.linear_axis("x", [0.0, 10.0], str)
    label = "Q8_0 <&>"
    lines = [
        plot.Path("line m0", ((0.0, 1.0), (5.0, 9.0)), label),
        plot.Path("front", ((0.0, 0.0), (9.0, 9.0))),
    ]
    drawn = ElementTree.fromstring(plot.plot("t", axis, axis, (), lines))
    named = [e for e in drawn.iter() if e.tag.endswith("text") and e.text == label]
    ends = [e.get("points", "").split()[-1].split(",") for e in drawn.iter() if e.tag.endswith("polyline")]
    assert len(named) == 1 and len(ends) == 2
    assert named[0].get("x") == ends[0][0] and 0 < float(ends[0][1]) - float(named[0].get("y", "0")) < 10
    assert len([e for e in drawn.iter() if e.tag.endswith("text")]) == 3 + 2 * len(axis.ticks)
