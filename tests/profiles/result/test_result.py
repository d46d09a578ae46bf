"""From raw records to measurements, caveats and JSON - and back."""

import json
import random
import string
from dataclasses import replace

import profile_samples as samples
import pytest
from json_fuzz import WRONG, changed, places

from edgellm.profiles import report as reports
from edgellm.profiles.report.words import caveat_words
from edgellm.profiles.result import derive
from edgellm.profiles.result.caveats import TEXT, Caveat
from edgellm.profiles.result.codec import CodecError, from_plain, to_plain
from edgellm.profiles.result.result import EnergyRecord, EnergyWindow, ResultError, from_json, to_json
from edgellm.profiles.result.settings import Workload
from edgellm.profiles.study import checks

MIB = 1 << 20


def value(run, name):
    summary = run.summary(name)
    return summary and summary.mean


def test_speeds_follow_their_definitions():
    run = samples.run(launches=(samples.launch(prefill_ms=(100.0,), gap_ms=(10.0,)),))
    assert value(run, "ttft_seconds") == pytest.approx(0.102)
    assert value(run, "prefill_tokens_per_second") == pytest.approx(5120)
    assert value(run, "decode_tokens_per_second") == pytest.approx(100)
    assert value(run, "tpot_seconds") == pytest.approx(0.010)
    assert value(run, "decode_bytes_per_second") == pytest.approx(300)
    assert value(run, "prefill_bytes_per_second") == pytest.approx(15360)
    assert value(run, "answer_seconds") == pytest.approx(0.102 + 1.27)
    assert value(run, "load_seconds") == pytest.approx(0.05)


def test_memory_is_taken_from_its_phases():
    run = samples.run(launches=(samples.launch(),))
    assert value(run, "peak_bytes") == 190 * MIB
    assert value(run, "peak_load_bytes") == 160 * MIB
    assert value(run, "anonymous_bytes") == 61 * MIB
    assert value(run, "weights_mapped_bytes") == 100 * MIB
    assert value(run, "needed_bytes") == 161 * MIB
    assert value(run, "baseline_bytes") == 45 * MIB


def test_energy_is_per_token_gross_and_net_of_idle():
    run = samples.run(launches=(samples.launch(record=samples.energy()),))
    assert value(run, "idle_watts") == pytest.approx(5.05)
    assert value(run, "decode_watts") == pytest.approx(25)
    assert value(run, "decode_joules_per_token") == pytest.approx(0.5)
    assert value(run, "decode_joules_per_token_net") == pytest.approx((50 - 5.05 * 2) / 100)
    assert value(run, "decode_joules_per_byte") == pytest.approx(0.5 / 3)
    assert value(run, "prefill_joules_per_token") == pytest.approx(12.8 / 512)
    assert run.measurement("load_joules").reason == "load took 0.01 s; rapl needs 0.1 s or more"


def test_unmeasured_is_no_number_and_has_a_reason():
    no_energy = samples.run()
    for name in derive.METRICS:
        if "joules" in name or "watts" in name:
            measurement = no_energy.measurement(name)
            assert measurement.samples == () and "no energy counter" in str(measurement.reason)
    prefill_only = samples.run(launches=(samples.launch(n_gaps=0),))
    assert "fewer than two" in str(prefill_only.measurement("tpot_seconds").reason)
    failed = samples.run(launches=())
    assert {m.reason for m in failed.measurements} == {"no launch succeeded"}


def test_every_sample_knows_its_launch():
    measurement = samples.run().measurement("decode_tokens_per_second")
    assert measurement.launches == (0, 0, 0, 1, 1, 1)


def test_json_there_and_back():
    report = samples.report(
        samples.run(launches=(samples.launch(record=samples.energy()),)),
        samples.run("failed", launches=()),
        caveats=(Caveat("foreign-load", "failed", {"share": 0.12, "count": 1, "n": 2}),),
    )
    text = to_json(report)
    assert from_json(text) == report
    plain = json.loads(text)
    decode = next(m for m in plain["runs"][0]["measurements"] if m["name"] == "decode_tokens_per_second")
    assert decode["summary"]["n"] == 3 and len(decode["samples"]) == 3
    assert plain["caveats"][0]["fact"].startswith("other programs used up to 12%")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda p: p.pop("machine"), "missing field 'machine'"),
        (lambda p: p["runs"][0]["launches"][0].update(load_ns="fast"), "load_ns: expected int, got str"),
        (lambda p: p.update(schema="other/9"), "has schema 'other/9'"),
        (lambda p: p.pop("schema"), "not an edgellm result"),
        (lambda p: p.update(runs=None), "damaged"),
    ],
)
def test_a_damaged_result_is_refused_by_name(damage, told):
    plain = json.loads(to_json(samples.report()))
    damage(plain)
    with pytest.raises(ResultError, match=told):
        from_json(json.dumps(plain), "run.json")
    with pytest.raises(ResultError, match="not an edgellm result"):
        from_json("not json")


def test_what_a_newer_edgellm_added_is_kept_and_written_again():
    """As a change to the JSON alone, so that the files may be compared byte by byte."""
    plain = json.loads(to_json(samples.report(samples.run("a"), samples.run("b"))))
    plain["more"] = {"deep": [1]}
    plain["machine"]["more"] = "text"
    plain["runs"][1]["more"] = None
    plain["runs"][1]["launches"][0]["memory"]["phases"][1]["more"] = [{"x": 1}]
    report = from_json(json.dumps(plain))
    again = json.loads(to_json(report))
    assert again == plain
    longer = replace(report, runs=(*report.runs, samples.run("c")), complete=False)
    again = json.loads(to_json(longer))
    assert (
        again["runs"][1]["more"] is None and "more" not in again["runs"][2] and again["more"] == {"deep": [1]}
    )
    shorter = json.loads(to_json(replace(report, runs=report.runs[:1])))
    assert len(shorter["runs"]) == 1 and shorter["machine"]["more"] == "text"
    with pytest.raises(CodecError, match="unknown field 'promt'"):
        from_plain(Workload, {"promt": 1})


def test_the_codec_keeps_types_apart():
    assert from_plain(Workload, to_plain(Workload(n_prompt=7))) == Workload(n_prompt=7)
    assert from_plain(Workload, {"temperature": 1}).temperature == 1.0
    with pytest.raises(CodecError, match=r"Workload\.n_prompt: expected int, got bool"):
        from_plain(Workload, {"n_prompt": True})
    assert to_plain(float("nan")) is None


def caveats(run, **machine_changes) -> set[str]:
    here = samples.machine(**machine_changes)
    return {c.code for c in [*checks.check_machine(here, [run]), *checks.check_run(run)]}


def test_a_clean_run_has_no_caveats():
    assert caveats(samples.run()) == set()


@pytest.mark.parametrize(
    ("code", "run", "machine"),
    [
        ("foreign-load", {"foreign": 0.2}, {}),
        ("too-many-threads", {"threads": 16}, {}),
        ("engine-note", {"notes": ("running without repacked kernels",)}, {}),
        ("governor", {}, {"governor": "powersave"}),
        ("on-battery", {}, {"power_source": "battery"}),
        ("drift", {"prefill_ms": (100.0, 105.0, 110.1, 114.9, 120.0), "gap_ms": (10.0,) * 5}, {}),
        ("outliers", {"gap_ms": (10.0, 10.1, 9.9, 10.05, 30.0), "prefill_ms": (100.0,) * 5}, {}),
    ],
)
def test_what_would_mislead_a_reader_is_said(code, run, machine):
    found = caveats(samples.run(launches=(samples.launch(**run),)), **machine)
    assert code in found


def test_a_model_that_the_caches_may_hold_is_marked():
    run = samples.run(cache_resident=True)
    assert "small-model" in caveats(run)
    assert run.limits.decode_tokens_per_second is None and "last-level caches" in str(run.limits.reason)
    assert run.measurement("decode_bandwidth_share").samples == ()


def test_launches_that_disagree_are_said():
    launches = (samples.launch(0), samples.launch(1, gap_ms=(12.0, 12.1, 11.9)))
    assert "launches-differ" in caveats(samples.run(launches=launches))


def test_every_caveat_has_a_fact_and_an_advice():
    for code, (fact, advice) in TEXT.items():
        fields = {name for _, name, _, _ in string.Formatter().parse(fact + advice) if name}
        values = {
            name: "x" if name in ("metric", "names", "error", "note", "governor", "phase") else 1
            for name in fields
        }
        assert fact.format(**values) and advice.format(**values)
        assert Caveat(code, "model", values).fact


def test_a_caveat_of_another_version_is_shown_as_it_is():
    assert Caveat("solar-flare", "m", {"count": 2}).fact == "solar-flare (count 2)"
    assert caveat_words(Caveat("steal", "m", {"portion": 0.5}), "zh") == ("steal (portion 0.5)", "")


def test_one_remark_covers_several_figures():
    launches = [
        samples.launch(i, gap_ms=(gap,) * 2, prefill_ms=(10 * gap,) * 2)
        for i, gap in enumerate((8.0, 10.0, 12.0))
    ]
    run = samples.run(launches=tuple(launches))
    wide = [c for c in checks.check_run(run) if c.code == "wide"]
    assert len(wide) == 1
    assert "decode and prefill" in caveat_words(wide[0], "en")[0]
    assert "解码、预填充" in caveat_words(wide[0], "zh")[0]


def test_a_second_meter_has_figures_of_its_own_name_and_is_never_added():
    gpu = EnergyRecord("nvml", windows=(EnergyWindow("decode", 2.0, 100, {"GPU-1": 80.0}),))
    launch = replace(samples.launch(record=samples.energy()), energy_beside=(gpu,))
    alone = samples.run(launches=(samples.launch(record=samples.energy()),))
    both = samples.run(launches=(launch,))
    name = "decode_joules_per_token"
    assert both.measurement(name) == alone.measurement(name)
    assert both.measurement(f"{name}@nvml").samples == (pytest.approx(0.8),)
    assert "no window" in str(both.measurement("prefill_watts@nvml").reason)


def test_the_meters_pace_bounds_the_interval_from_below():
    window = EnergyWindow("decode", 2.0, 100, {"all": 50.0}, error_joules=1.0)
    idle = EnergyWindow("idle", 1.0, 0, {"all": 5.0}, error_joules=0.3)
    record = EnergyRecord("slow", windows=(idle, window, idle))
    run = samples.run(launches=(samples.launch(record=record),))
    gross = run.summary("decode_joules_per_token")
    net = run.measurement("decode_joules_per_token_net")
    assert gross is not None and gross.ci95_unit == "resolution"
    assert gross.ci95_high == pytest.approx(0.5 + 1.96 * 0.01, rel=1e-3)
    assert net.samples == (pytest.approx(0.4),)
    assert net.resolution == pytest.approx((1.0 + (0.3 / 2**0.5 * 2) ** 2) ** 0.5 / 100)


def test_a_value_of_any_wrong_type_is_one_line_or_shown():
    """Values all over a result, each replaced by one of many: refused by place, or a table can be made of it."""
    good = json.loads(to_json(samples.report()))
    rng, refused = random.Random(7), 0
    everywhere = [(place, value) for place in places(good) for value in WRONG]
    for place, value in rng.sample(everywhere, 300):
        try:
            found = from_json(json.dumps(changed(good, place, value)))
        except ResultError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert reports.render(found, "table", "en")
    assert refused > 100
