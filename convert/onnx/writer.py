"""Conversion to an ONNX folder, the whole of it: checkpoint, graph, weights, manifest, verification, name.

Streams: the data file is laid out first and filled block by block, so memory does not grow with the model and
nothing needs torch. Knows the order of things; each step is in a module of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm import files
from edgellm.convert.checkpoint.adapter import open_checkpoint
from edgellm.convert.checkpoint.folder import Checkpoint, find_file, read_json
from edgellm.convert.checkpoint.purpose import is_embedding, with_purpose
from edgellm.convert.checkpoint.remarks import remarks
from edgellm.convert.checkpoint.tokenizer import Vocabulary, load_tokenizer, read_tokenizer
from edgellm.convert.gguf.imatrix import Imatrix
from edgellm.convert.gguf.metadata import build_metadata, default_stem
from edgellm.convert.onnx import kv, manifest, stream
from edgellm.convert.onnx.decoder import Decoder
from edgellm.convert.onnx.graph import DataFile, Graph, Region
from edgellm.convert.onnx.kv import LayerScales
from edgellm.convert.onnx.layers import Layers
from edgellm.convert.onnx.linear import Writer
from edgellm.convert.onnx.options import MAX_CTX, OnnxOptions, Recipe, for_prompts, recipe, subject
from edgellm.convert.recipes.rules import Subject, check_patterns
from edgellm.errors import UsageError
from edgellm.formats import onnx_folder, purpose
from edgellm.formats.tokenizer_files import TEMPLATE_FOLDER
from edgellm.models.base import ModelSpec, Role, TensorSpec
from edgellm.models.classifier import without_classifier
from edgellm.models.registry import spec_of
from edgellm.version import __version__

if TYPE_CHECKING:
    from edgellm.convert.recipes.recipe import RecipeFile
    from edgellm.formats.artifact import Artifact

MODEL, DATA = "model.onnx", "model.onnx.data"
PREFILL, PREFILL_DATA = "prefill.onnx", "prefill.onnx.data"
GENAI_MODEL = "genai.onnx"  # the same nodes on the same data, logits of the last position only

#: Checks the finished folder, still under a temporary name, and gives the verdict to record; raises to refuse.
Verifier = Callable[[Path], str]


@dataclass(frozen=True)
class OnnxRequest:
    """What to convert, into what, and how."""

    source: Path  # a checkpoint folder
    quant: str = "onnx-int4"
    output: Path | None = None  # the folder to write; None: `<name>-<type>` in the current one
    options: OnnxOptions = field(default_factory=OnnxOptions)
    recipe: RecipeFile | None = None  # its base is `quant`
    imatrix: Path | None = None  # weighs columns where scales are searched for
    calibration_text: str = field(default="", repr=False)  # what an int8 KV cache's scales are measured on
    n_threads: int | None = None  # None: one per core
    lora: Path | None = None  # folder of a PEFT adapter to merge
    ignore_adapter: bool = False  # convert without the adapter that lies beside the weights
    hash_sources: bool = True
    force: bool = False

    @property
    def encodings(self) -> Recipe:
        """What every matrix becomes. Raises UsageError."""
        patterns = self.recipe.patterns if self.recipe else ()
        return recipe(self.quant, self.options, patterns, weighed=self.imatrix is not None)

    def open_source(self) -> Checkpoint:
        """The checkpoint with its adapter, if one was asked for. Raises CheckpointError."""
        return open_checkpoint(self.source, self.lora, ignore_adapter=self.ignore_adapter)


@dataclass(frozen=True)
class OnnxPlan:
    """Everything decided before a weight is read."""

    spec: ModelSpec
    vocabulary: Vocabulary = field(repr=False)
    name: str
    purpose: Mapping[str, Any]  # GGUF's keys of embedding
    stem: str
    n_ctx: int
    decoder: Decoder = field(repr=False)
    prefill: Decoder | None = field(repr=False)

    @property
    def decoders(self) -> tuple[Decoder, ...]:
        """The graph, and the second one for prompts if there is one."""
        return (self.decoder, self.prefill) if self.prefill else (self.decoder,)

    @property
    def jobs(self) -> list[stream.Job]:
        """What will be read, encoded and written."""
        return [job for decoder in self.decoders for job in decoder.writer.jobs]

    @property
    def nbytes(self) -> int:
        """Bytes of the data files."""
        return sum(decoder.writer.data.nbytes for decoder in self.decoders)


def convert_onnx(
    request: OnnxRequest,
    *,
    verify: Verifier | None = None,
    report: stream.Report | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Convert and return the artifact, a folder. `report` gets (weights done, of all, seconds).

    `tell` gets a line for each part of the source that is left out.

    Raises CheckpointError, UsageError, OutputExistsError, StorageError, and what `verify` raises; whatever it
    raises, no output has appeared and one that was there is unchanged.
    """
    from edgellm.formats.artifact import Artifact

    with request.open_source() as checkpoint:
        plan = make_plan(checkpoint, request)
        output = request.output or Path(plan.stem)
        if output.is_dir() and not onnx_folder.is_model(output):
            output = output / plan.stem
        files.check_output(output, force=request.force)
        files.check_space(output.parent, plan.nbytes)
        for remark in remarks(plan.spec, checkpoint.config, keeps_nextn=False):
            tell(remark)

        def finish(folder: Path) -> None:
            if verify:
                verdict = verify(folder)
                with files.storage_errors(output):
                    _record(folder, verification=verdict)

        with files.atomic_path(output, force=request.force, validate=finish) as folder:
            folder.mkdir()
            _write(checkpoint, plan, request, folder, report)
    return Artifact.open(output)


def make_plan(checkpoint: Checkpoint, request: OnnxRequest) -> OnnxPlan:
    """Read headers and tokenizer, build the graph, and lay out the data file. Raises CheckpointError, UsageError."""
    config, generation = checkpoint.config, checkpoint.generation_config
    chosen = request.encodings
    spec = spec_of(config, checkpoint.shapes, headless=is_embedding(checkpoint.dir))
    vocabulary = read_tokenizer(checkpoint.dir, config, generation, spec.n_vocab)
    scorer = with_purpose(checkpoint, spec, vocabulary)[1].tensor(Role.CLS_OUT)
    spec = without_classifier(spec)  # the head stays whole, and one row of scores is no part of the graph
    keys = build_metadata(checkpoint.dir, config, generation, spec, vocabulary, 0)
    if scorer:
        keys |= _reranking(checkpoint, scorer).keys
    n_ctx = min(request.options.context or MAX_CTX, spec.n_ctx_train)
    writer = Writer(Graph(spec.architecture.name), DataFile(DATA))
    scales = _kv_scales(checkpoint, request, spec, vocabulary)
    check_patterns(chosen.patterns, _subjects(spec))
    imatrix = Imatrix.open(request.imatrix) if request.imatrix else None
    decoder = Decoder(Layers(spec, chosen, writer, imatrix), n_ctx, scales)
    decoder.build()
    prefill = None
    if request.options.prefill == "w8a8":
        second = Writer(Graph(spec.architecture.name), DataFile(PREFILL_DATA), shared=_placed(decoder))
        prefill = Decoder(Layers(spec, for_prompts(chosen), second), n_ctx, scales, has_head=False)
        prefill.build()
    name = manifest.model_name(keys, checkpoint.dir)
    return OnnxPlan(
        spec,
        vocabulary,
        name,
        purpose.plain(keys),
        f"{default_stem(keys, '')}-{request.recipe.name if request.recipe else chosen.name}",
        n_ctx,
        decoder,
        prefill,
    )


def _subjects(spec: ModelSpec) -> list[Subject]:
    """What a recipe's rules may be for."""
    roles = [
        (tensor.role, layer)
        for layer in (None, *range(spec.n_layer))
        for role in Role
        if (tensor := spec.tensor(role, layer)) and len(tensor.shape) > 1
    ]
    found = [subject((role,), -1 if layer is None else layer, spec.n_layer) for role, layer in roles]
    return found + ([subject((Role.OUTPUT,), -1, spec.n_layer)] if spec.tied else [])


def _reranking(checkpoint: Checkpoint, scorer: TensorSpec) -> purpose.Reranking:
    """What scores a document: two rows of the head, or a row of its own."""
    if len(scorer.sources) == 2:
        yes, no = (source.start for source in scorer.sources)
        return purpose.Reranking(purpose.QWEN3_RERANK, yes, no)
    row = checkpoint.tensors[scorer.sources[0].name].rows(0, 1)[0]
    return purpose.Reranking(purpose.QWEN3_RERANK, score=tuple(map(float, row)))


def _kv_scales(
    checkpoint: Checkpoint, request: OnnxRequest, spec: ModelSpec, vocabulary: Vocabulary
) -> dict[int, LayerScales]:
    if request.options.kv != "int8":
        return {}
    if not request.calibration_text:
        raise UsageError("an int8 KV cache needs a text to measure its scales on: set calibration_text")
    tokenizer = load_tokenizer(checkpoint.dir, vocabulary.added)
    tokens = tokenizer.encode(request.calibration_text).ids[: min(kv.N_TOKENS, spec.n_ctx_train)]
    return kv.measure(spec, checkpoint.tensors, tokens)


def _placed(decoder: Decoder) -> dict[str, Region]:
    """Every tensor of a graph by name."""
    regions = [region for job in decoder.writer.jobs for region in job.regions]
    return {region.name: region for region in (*regions, *(region for region, _ in decoder.computed))}


def _write(
    checkpoint: Checkpoint,
    plan: OnnxPlan,
    request: OnnxRequest,
    folder: Path,
    report: stream.Report | None,
) -> None:
    from edgellm.machine import hardware

    threads = hardware.threads(request.n_threads)
    with files.storage_errors(folder):
        for decoder in plan.decoders:
            writer, data = decoder.writer, folder / decoder.writer.data.name
            stream.write(data, writer.data.nbytes, writer.jobs, checkpoint.tensors, threads, report)
            for region, value in decoder.computed:
                stream.write_array(data, region, value)
        graphs = [(MODEL, plan.decoder, False), (GENAI_MODEL, plan.decoder, True)]
        graphs += [(PREFILL, plan.prefill, False)] if plan.prefill else []
        for name, decoder, fixed in graphs:
            proto = decoder.writer.graph.serialize({}, ("edgellm", __version__), fixed=fixed)
            (folder / name).write_bytes(proto)
        write_tokenizer(checkpoint.dir, plan.vocabulary, folder)
        config = manifest.genai_config(plan.spec, plan.vocabulary, plan.n_ctx, GENAI_MODEL)
        _write_json(folder / manifest.GENAI_CONFIG, config)
        _write_manifest(checkpoint, plan, request, folder)


def _write_manifest(checkpoint: Checkpoint, plan: OnnxPlan, request: OnnxRequest, folder: Path) -> None:
    chosen = request.encodings
    asked = {key: value for key, value in asdict(request.options).items() if value not in (None, "auto")}
    merged = {"lora": dict(checkpoint.adapter)} if checkpoint.adapter else {}
    made = merged | {"type": chosen.name, "matrix": chosen.matrix.label, "head": chosen.head.label, **asked}
    made |= {"recipe": request.recipe.record} if request.recipe else {}
    made |= {"imatrix_sha256": files.sha256(request.imatrix)} if request.imatrix else {}
    found = manifest.manifest(plan.spec, plan.vocabulary, plan.name, chosen.name, plan.n_ctx, made)
    found["purpose"] = dict(plan.purpose)
    found["prefill"] = PREFILL if plan.prefill else None
    found["source"] = checkpoint.sha256() if request.hash_sources else {}
    found["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != manifest.MANIFEST
    }
    found["verification"] = "not verified"
    _write_json(folder / manifest.MANIFEST, found)


def _record(folder: Path, **changes: Any) -> None:
    path = folder / manifest.MANIFEST
    _write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def write_tokenizer(source: Path, vocabulary: Vocabulary, folder: Path) -> None:
    """The checkpoint's tokenizer files, for every program that reads such folders.

    tokenizer.json gets the added tokens of all files, and loses truncation and padding: those are of a call,
    and some programs obey them.
    """
    for name in manifest.TOKENIZER_FILES:
        if path := find_file(source, name):
            shutil.copyfile(path, folder / name)
    more = source / TEMPLATE_FOLDER
    for path in sorted(more.glob("*.jinja")):
        (folder / TEMPLATE_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(find_file(more, path.name) or path, folder / TEMPLATE_FOLDER / path.name)
    added = [token.as_json(index) for index, token in sorted(vocabulary.added.items())]
    tokenizer, settings = (read_json(source, f"tokenizer{end}.json") or {} for end in ("", "_config"))
    pad = vocabulary.special.names.get("pad_token")
    if tokenizer.get("padding") and pad and "pad_token" not in settings:  # named there alone
        _write_json(folder / "tokenizer_config.json", settings | {"pad_token": pad})
    _write_json(
        folder / "tokenizer.json", tokenizer | {"truncation": None, "padding": None, "added_tokens": added}
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
