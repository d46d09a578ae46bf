"""Recipes beside llama.cpp's types: KLD on held-out text, bytes, decode and prefill in turns, and the frontier drawn.

    python bench/recipe.py CHECKPOINT --work FOLDER [--recipes a.toml,b.toml] [--imatrix FILE]
                           [--types Q4_0,IQ4_NL,Q4_K_M] [--onnx onnx-int4] [--rounds 3]
                           [--picture docs/images/recipes.svg] [--stage kld|speed|show]
    python bench/recipe.py --search MINE.toml.search   # does the search's forecast rank groups as the engine does?

Held-out text is edgellm's general text: English, Chinese and code, unlike the calibration text; every
token is scored, against an F16 file. `--imatrix` adds each type with it, and is what recipes are converted with.
Stages run by themselves, for KLD needs no quiet machine and speed does; results stay in FOLDER and nothing is measured
twice. Rounds of speed visit every model once. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm import backends
from edgellm.convert.gguf.convert import ConvertRequest, convert
from edgellm.convert.onnx.options import OnnxOptions
from edgellm.convert.onnx.writer import OnnxRequest, convert_onnx
from edgellm.convert.recipes import recipe
from edgellm.formats.artifact import Artifact
from edgellm.generation.scoring import Chunk
from edgellm.profiles.quality import quality, texts
from edgellm.profiles.quality.reference_logits import CompactReference, create
from edgellm.profiles.report.plots import plot
from edgellm.session import EngineOptions, Session

ENGINE = EngineOptions(n_ctx=1024, n_threads=2, n_threads_batch=2)
PROMPT, ANSWER = 256, 48  # tokens of a visit
STYLE = """text{font:11px sans-serif;fill:#333}.end{text-anchor:end}
.mid{text-anchor:middle}.axis,.grid{stroke:#ccc}line{stroke:#ccc}circle{stroke:#fff}
.m0{fill:#8a94a6}.m1{fill:#c2410c}.m2{fill:#2563eb}path,polyline{fill:none;stroke:#c2410c}"""


@dataclass(frozen=True)
class Model:
    """One file or folder to make."""

    name: str
    quant: str
    recipe: recipe.RecipeFile | None = None
    imatrix: Path | None = None
    options: tuple[str, ...] = ()  # of --onnx

    @property
    def label(self) -> str:
        """Of its mark: what tells it from others of its kind."""
        if self.recipe:
            return self.name.rpartition("-")[2]
        return self.options[0].partition("=")[2] if self.options else self.name

    @property
    def css(self) -> str:
        """Of its mark."""
        return "m1" if self.recipe else "m2" if self.quant.startswith("onnx") else "m0"


def models(args: argparse.Namespace) -> Iterator[Model]:
    for type_ in filter(None, args.types.split(",")):
        yield Model(type_, type_)
        if args.imatrix:
            yield Model(f"{type_} imatrix", type_, imatrix=args.imatrix)
    for type_ in filter(None, args.onnx.split(",")):
        quant, *options = type_.split("+")
        yield Model(type_, quant, options=tuple(options))
    for name in filter(None, args.recipes.split(",")):
        found = recipe.load(name)
        yield Model(found.name, found.base, found, args.imatrix if found.imatrix else None)


def made(model: Model, args: argparse.Namespace) -> Artifact:
    """The converted model, made if it is not there yet."""
    path = args.work / model.name.replace(" ", "-")
    if model.quant.startswith("onnx"):
        if path.exists():
            return Artifact.open(path)
        return convert_onnx(
            OnnxRequest(
                args.checkpoint,
                model.quant,
                path,
                OnnxOptions.parse(model.options),
                recipe=model.recipe,
                imatrix=model.imatrix,
                n_threads=2,
            )
        )
    path = path.with_name(f"{path.name}.gguf")
    if path.exists():
        return Artifact.open(path)
    return convert(
        ConvertRequest(
            args.checkpoint, model.quant, path, recipe=model.recipe, imatrix=model.imatrix, hash_sources=False
        )
    )


def reference(args: argparse.Namespace) -> CompactReference:
    """What the F16 file says of the held-out texts."""
    path = args.work / "held.ref"
    if path.exists():
        return CompactReference(path)
    with backends.open_session(made(Model("F16", "F16"), args), ENGINE) as session:
        chunks = [held_out(session, name) for name in texts.LANGUAGES]
        source = quality.source_of(session, chunks, texts.NAME)
        with create(path, chunks, source) as writer:
            quality.evaluate(session, chunks, sink=writer)
    return CompactReference(path)


def held_out(session: Session, name: str) -> Chunk:
    ids = session.tokenize(texts.load(name), special=False, add_bos=session.info.add_bos)
    return Chunk(tuple(ids[: ENGINE.n_ctx]), 1)


def divergence(model: Model, args: argparse.Namespace) -> dict[str, Any]:
    """Bytes, and KLD of all texts and each."""
    artifact, base = made(model, args), reference(args)
    kept: list[Any] = []

    class Kept:
        def compare(self, block: Any) -> Any:
            compared = base.compare(block)
            kept.append((block.chunk, compared.kld))
            return compared

    with backends.open_session(artifact, ENGINE) as session:
        found = quality.evaluate(session, base.chunks, reference=Kept())
    assert found.divergence
    each = {
        name: float(sum(kld.sum() for chunk, kld in kept if chunk == i) / base.chunks[i].n_scored)
        for i, name in enumerate(texts.LANGUAGES)
    }
    estimate = found.divergence.kld_mean
    return {"bytes": artifact.size_bytes, "kld": estimate.value, "error": estimate.error, **each}


def visit(artifact: Artifact) -> dict[str, float]:
    """Tokens a second of a prompt and of an answer."""
    with backends.open_session(artifact, ENGINE) as session:
        ids = session.tokenize(texts.load("en"), special=False)
        session.eval(ids[:32])
        session.rewind(0)
        start = time.perf_counter()
        session.eval(ids[:PROMPT])
        prompt = time.perf_counter() - start
        start = time.perf_counter()
        for token in ids[PROMPT : PROMPT + ANSWER]:
            session.eval([token])
        return {"prefill": PROMPT / prompt, "decode": ANSWER / (time.perf_counter() - start)}


def ranks(folder: Path) -> None:
    """A search's groups of a role and a part of the depth: the divergence measured of each through the engine, and
    what is foretold of it from its role alone (divergence over noise, by weights, times its own noise)."""
    found = json.loads((folder / "sensitivity.json").read_text())["groups"]
    spans = [(*each["name"].partition(" ")[::2], each) for each in found]
    roles: dict[str, tuple[int, dict[str, Any]]] = {}  # the widest span of each role, in layers
    for role, layers, each in spans:
        if layers and (n := n_layers(layers)) > roles.get(role, (0, each))[0]:
            roles[role] = (n, each)
    rows = []
    for role, layers, each in spans:
        if layers and n_layers(layers) < roles[role][0]:
            n, whole = roles[role]
            said = whole["kld"] / whole["noise"] * n_layers(layers) / n * each["noise"]
            rows.append((each["name"], said, each["noise"], each["kld"]))
    print("| group | foretold KLD | noise | measured KLD |", "|---|---:|---:|---:|", sep="\n")
    for name, said, noise, kld in sorted(rows, key=lambda row: -row[3]):
        print(f"| `{name}` | {said:.4f} | {noise:.4f} | {kld:.4f} |")
    measured = [row[3] for row in rows]
    by_role, by_noise = (spearman([row[i] for row in rows], measured) for i in (1, 2))
    print(
        json.dumps({"groups": len(rows), "spearman": round(by_role, 3), "of noise alone": round(by_noise, 3)})
    )


def n_layers(span: str) -> int:
    first, _, last = span.partition("-")
    return int(last or first) - int(first) + 1


def spearman(one: list[float], other: list[float]) -> float:
    """Rank correlation of values without ties."""
    n = len(one)
    places = [{value: place for place, value in enumerate(sorted(each))} for each in (one, other)]
    apart = sum((places[0][a] - places[1][b]) ** 2 for a, b in zip(one, other, strict=True))
    return 1 - 6 * apart / (n * (n * n - 1))


def picture(rows: dict[str, dict[str, Any]], every: list[Model]) -> str:
    """KLD against decode speed."""
    points = [
        plot.Point(rows[m.name]["decode"], rows[m.name]["kld"], m.css, m.name, label=m.label)
        for m in every
        if "decode" in rows.get(m.name, {}) and "kld" in rows[m.name]
    ]
    x = plot.linear_axis("decode, tokens per second", [p.x for p in points], lambda v: f"{v:g}")
    y = plot.log_axis("mean KLD from F16, held-out text", [p.y for p in points], lambda v: f"{v:g}")
    drawn = plot.plot("KLD against decode speed", x, y, points)
    start = drawn.index(">") + 1
    head = drawn[:start]
    if "xmlns" not in head:
        head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}<style>{STYLE}</style><rect width='100%' height='100%' fill='#fff'/>{drawn[start:]}\n"


def table(rows: dict[str, dict[str, Any]], every: list[Model]) -> list[str]:
    lines = [
        "| model | MB | KLD | English | Chinese | code | decode, tok/s | prefill, tok/s |",
        "|---|" + "---:|" * 7,
    ]
    for model in every:
        row = rows.get(model.name, {})
        cells = (f"{row[name]:.4f}" if name in row else "-" for name in ("kld", *texts.LANGUAGES))
        paces = (f"{row[name]:.1f}" if name in row else "-" for name in ("decode", "prefill"))
        size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else "-"
        lines.append(f"| {model.name} | {size} | {' | '.join((*cells, *paces))} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--search", type=Path, help="a search's folder: only compare its forecast's ranks")
    parser.add_argument("--recipes", default="")
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--types", default="Q4_0,IQ4_NL,Q4_K_M,Q5_0,Q8_0")
    parser.add_argument(
        "--onnx",
        default="onnx-int4,onnx-int8",
        help="types, with settings behind a plus: onnx-int4+algorithm=kquant",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stage", choices=("kld", "speed", "show"))
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    if args.search:
        ranks(args.search)
        return
    if not args.checkpoint or not args.work:
        parser.error("give a checkpoint and --work, or --search")
    args.work.mkdir(exist_ok=True)
    state = args.work / "results.json"
    rows: dict[str, dict[str, Any]] = json.loads(state.read_text()) if state.exists() else {}
    every = list(models(args))
    if args.stage in (None, "kld"):
        for model in every:
            if "kld" not in rows.get(model.name, {}):
                rows.setdefault(model.name, {}).update(divergence(model, args))
                state.write_text(json.dumps(rows, indent=1))
                print(model.name, rows[model.name], flush=True)
    if args.stage in (None, "speed"):
        visits = [{m.name: visit(made(m, args)) for m in every} for _ in range(args.rounds)]
        for model in every:
            for phase in ("prefill", "decode"):
                own = [each[model.name][phase] for each in visits]
                rows.setdefault(model.name, {})[phase] = statistics.median(own)
        state.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows, every)))
    if args.picture:
        args.picture.write_text(picture(rows, every), encoding="utf-8")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
