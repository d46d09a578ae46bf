"""Converting to an ONNX folder on the command line: options checked, the result told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellm.catalog import conversion
from edgellm.errors import UsageError
from edgellm.terminal import aligned, note, say
from edgellm.units import format_seconds, format_size

if TYPE_CHECKING:
    from edgellm.convert.onnx.writer import OnnxRequest

#: Options of `convert` that have no meaning for ONNX, by their parameter names.
_GGUF_ONLY = {
    "tensor_type": "--tensor-type",
    "output_tensor_type": "--output-tensor-type",
    "token_embedding_type": "--token-embedding-type",
    "pure": "--pure",
    "max_ram": "--max-ram",
    "split_max_size": "--split-max-size",
    "allow_requantize": "--allow-requantize",
}


def command(
    source: str, options: dict[str, Any], *, dry_run: bool, verify: bool, keep_unverified: bool
) -> None:
    """What `edgellm convert` does for an ONNX type. Raises EdgellmError."""
    request = _request(source, options)
    if options["exporter"] == "optimum":
        return _export(request)
    if dry_run:
        return _print_preview(request, tensors=options["tensors"])
    done = conversion.run_onnx(request, verify=verify, keep_unverified=keep_unverified)
    artifact = done.artifact
    say(
        f"{artifact.path}: {artifact.quantization}, {format_size(artifact.size_bytes)}, "
        f"in {format_seconds(done.seconds)}"
    )
    if done.verdict:
        say(f"verified: {done.verdict}")
    elif done.failure is None:
        say("not verified (--no-verify)")
    if done.failure:
        raise done.failure


def without_gguf_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a command that names types of both kinds, as they concern ONNX."""
    return {name: value for name, value in options.items() if name not in _GGUF_ONLY} | dict.fromkeys(
        _GGUF_ONLY
    )


def _request(source: str, options: dict[str, Any]) -> OnnxRequest:
    from edgellm.catalog import models
    from edgellm.convert.onnx.options import OnnxOptions
    from edgellm.convert.onnx.writer import OnnxRequest

    for name, flag in _GGUF_ONLY.items():
        if options[name]:
            raise UsageError(f"{flag} is for GGUF types; ONNX types are refined with --onnx KEY=VALUE")
    output: Path | None = options["output"]
    found, lora = conversion.with_base(source, options["lora"], offline=options["offline"])
    return OnnxRequest(
        source=found.path if lora else models.checkpoint_folder(source, offline=options["offline"]),
        quant=options["quant"].lower(),
        output=output,
        options=OnnxOptions.parse(options["onnx"]),
        recipe=options["recipe"],
        imatrix=options["imatrix"],
        n_threads=options["threads"],
        lora=lora,
        ignore_adapter=options["no_lora"],
        force=options["force"],
    )


def _export(request: OnnxRequest) -> None:
    from edgellm.convert import optimum
    from edgellm.convert.checkpoint import adapter

    if request.lora or adapter.is_adapter(request.source):
        raise UsageError(
            "--exporter optimum knows no adapters: use the direct exporter, with --lora or --no-lora"
        )
    output = request.output or Path()
    if request.output is None or output.is_dir():
        output = output / f"{request.source.resolve().name}-{request.quant}-optimum"
    artifact = optimum.export(request.source, output, request.quant, force=request.force)
    say(f"{artifact.path}: {format_size(artifact.size_bytes)}, exported by optimum, not verified")


def _print_preview(request: OnnxRequest, *, tensors: bool) -> None:
    from edgellm.convert.checkpoint.remarks import remarks
    from edgellm.convert.onnx.writer import make_plan

    plain = replace(
        request, options=replace(request.options, kv="auto")
    )  # its scales need no room to speak of
    with request.open_source() as checkpoint:
        plan = make_plan(checkpoint, plain)
        for remark in remarks(plan.spec, checkpoint.config, keeps_nextn=False):
            note(remark)
    heads = [(job.regions[0], format_size(job.nbytes)) for job in plan.jobs]
    rows = [(head.name, "x".join(map(str, head.shape)), head.type.name, size) for head, size in heads]
    output = request.output
    if output is None or output.is_dir():
        output = (output or Path()) / plan.stem
    bits = 8 * plan.nbytes / plan.spec.n_params
    say(
        *aligned(rows if tensors else [], "<><>"),
        f"{output}: {format_size(plan.nbytes)}, {bits:.2f} bits per weight",
    )
