"""Loading a model, making a context and putting LoRA adapters on it through llama.cpp's C API, every option settled."""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from edgellm.backends.llama import devices as llama_devices
from edgellm.backends.llama import lib as llama_lib
from edgellm.backends.llama import memory_estimate, remote
from edgellm.backends.llama.sequence import mtp
from edgellm.errors import EngineError, option
from edgellm.formats import purpose
from edgellm.formats.artifact import Artifact
from edgellm.formats.gguf import adapter as adapter_file
from edgellm.formats.gguf.lora import Lora
from edgellm.formats.gguf.reader import read_header
from edgellm.machine import devices
from edgellm.machine.devices import Device
from edgellm.session import EngineInfo, EngineOptions

if TYPE_CHECKING:
    from edgellm.backends.llama.observe import Observer
    from edgellm.backends.llama.vocabulary import Vocabulary


class Weights(Protocol):
    """Who has loaded a model, and frees it: `model` is its llama_model *."""

    model: Any


def load_model(lib: Any, artifact: Artifact, options: EngineOptions, device: Device | None) -> Any:
    """The weights, as llama_model *. Raises EngineError when the library refuses them."""
    params = lib.llama_model_default_params()
    chosen = llama_devices.handles(device)  # alive until the call below
    params.devices = ctypes.addressof(chosen)
    params.n_gpu_layers = options.n_gpu_layers
    params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = bool(options.repack)
    params.load_mtp = options.mtp
    there = devices.servers(device.name) if device else ()
    if there:
        remote.quiet_abort()
    llama_lib.log_clear()
    model = lib.llama_model_load_from_file(os.fsencode(artifact.path), params)
    if not model:
        newer = "; a newer llama-cpp-python may know it" if artifact.foreign else ""
        raise EngineError(
            f"llama.cpp cannot load {artifact.path}: {llama_lib.last_error() or 'no reason given'}{newer}"
        )
    remote.keep_alive(there)
    return model


def new_context(
    lib: Any,
    model: Any,
    artifact: Artifact,
    options: EngineOptions,
    observer: Observer | None = None,
    *,
    n_sequences: int = 1,
    n_rows: int = 0,
) -> Any:
    """A context on them, as llama_context *: of `options.n_ctx` tokens for each of its sequences. Raises EngineError.

    `n_rows`: rows of logits that one evaluation gives at most, 0 for one to every token.
    """
    params = _context_params(lib, artifact, options)
    params.n_ctx, params.n_seq_max, params.n_outputs_max = (
        (options.n_ctx or 0) * n_sequences,
        n_sequences,
        n_rows,
    )
    if purpose.ranks(artifact):
        params.pooling_type = lib.LLAMA_POOLING_TYPE_RANK
    elif f"{artifact.architecture}.pooling_type" in artifact.metadata:
        params.pooling_type = lib.LLAMA_POOLING_TYPE_NONE  # embedding.py pools, the same for every engine
    if observer is not None:
        params.cb_eval = observer.callback
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise EngineError(
            f"llama.cpp cannot make a context of {options.n_ctx} tokens for {artifact.path}: "
            f"{llama_lib.last_error() or 'no reason given'}; try a smaller {option('n_ctx')}"
        )
    if not lib.llama_get_causal_attn(context) or lib.llama_model_has_encoder(model):
        lib.llama_free(context)
        raise EngineError(
            f"{artifact.path} is a {artifact.architecture} model, which does not go on with a text: it makes "
            "embeddings, or reads all of one text to write another; edgellm cannot run it"
        )
    return context


def draft_head(
    lib: Any, model: Any, context: Any, artifact: Artifact, options: EngineOptions
) -> mtp.DraftHead | None:
    """The model's own draft head beside `context`, if the options ask for it. Raises EngineError where it has none."""
    if not options.mtp:
        return None
    if not lib.llama_model_n_layer_nextn(model):
        raise EngineError(
            f"{artifact.path} has no block that drafts (MTP): take a file that kept it (its header says "
            f"nextn_predict_layers), or {option('draft')} with a smaller model"
        )
    params = _context_params(lib, artifact, options)
    params.n_ctx, params.n_batch, params.n_ubatch = lib.llama_n_ctx(context), mtp.N_BATCH, mtp.N_BATCH
    params.ctx_type, params.ctx_other = lib.LLAMA_CONTEXT_TYPE_MTP, context
    own = lib.llama_init_from_model(model, params)
    if not own:
        why = llama_lib.last_error() or "no reason given"
        raise EngineError(f"llama.cpp cannot open the draft head of {artifact.path}: {why}")
    return mtp.DraftHead(lib, context, own, lib.llama_model_n_embd(model))


def _context_params(lib: Any, artifact: Artifact, options: EngineOptions) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = options.n_ctx
    assert options.n_batch and options.n_ubatch and options.type_k and options.type_v
    params.n_batch = max(options.n_batch, options.n_ubatch)
    params.n_ubatch = options.n_ubatch
    params.n_threads = options.n_threads
    params.n_threads_batch = options.n_threads_batch
    params.flash_attn_type = llama_lib.FLASH_ATTN[options.flash_attn]
    params.type_k = llama_lib.kv_type(options.type_k).id
    params.type_v = llama_lib.kv_type(options.type_v).id
    params.no_perf = True
    _yarn(params, artifact)
    return params


def _yarn(params: Any, artifact: Artifact) -> None:
    """YaRN's ramp as the file gives it: the library's loaders of these families leave its two keys unread."""
    for name in ("yarn_beta_fast", "yarn_beta_slow"):
        value = artifact.metadata.get(f"{artifact.architecture}.rope.scaling.{name}")
        if isinstance(value, float):
            setattr(params, name, value)


def describe(
    lib: Any,
    context: Any,
    vocabulary: Vocabulary,
    artifact: Artifact,
    options: EngineOptions,
    device: Device | None,
    notes: list[str],
) -> EngineInfo:
    """What an open context says of itself."""
    n_ctx, buffers = lib.llama_n_ctx(context), llama_lib.buffers()
    kept = memory_estimate.checkpoint_bytes(artifact, options)
    if buffers is not None and kept is not None:
        buffers = replace(buffers, checkpoints=kept)
    return EngineInfo(
        backend="llamacpp",
        version=llama_lib.version(),
        system=llama_lib.system_info(),
        options=replace(options, n_ctx=n_ctx),
        n_ctx=n_ctx,
        n_vocab=vocabulary.n_tokens,
        eos_ids=vocabulary.ends | artifact.stop_ids,
        add_bos=vocabulary.add_bos,
        closing_id=vocabulary.closing_id,
        notes=tuple(notes),
        kv_bytes_per_token=memory_estimate.kv_bytes_per_token(artifact, options),
        buffers=buffers,
        device=str(device or devices.CPU),
        places=llama_lib.places(llama_devices.server_names(device)),
    )


def apply_adapters(lib: Any, model: Any, context: Any, adapters: tuple[Lora, ...]) -> None:
    """Load `adapters` and set them with their scales. The library frees them with the model.

    Raises EngineError where one does not fit the model, ArtifactError for a file that is no adapter any more.
    """
    if not adapters:
        return
    handles = (lib.llama_adapter_lora_p_ctypes * len(adapters))(
        *(_load_adapter(lib, model, one) for one in adapters)
    )
    scales = (ctypes.c_float * len(adapters))(*(one.scale for one in adapters))
    if lib.llama_set_adapters_lora(context, handles, len(adapters), scales):
        names = ", ".join(one.path for one in adapters)
        raise EngineError(f"llama.cpp cannot apply {names}: {llama_lib.last_error() or 'no reason'}")


def _load_adapter(lib: Any, model: Any, adapter: Lora) -> Any:
    adapter_file.check(read_header(adapter.path))
    llama_lib.log_clear()
    handle = lib.llama_adapter_lora_init(model, adapter.path.encode())
    if not handle:
        raise EngineError(
            f"llama.cpp cannot load the adapter {adapter.path}: {llama_lib.last_error() or 'no reason given'}; "
            "it must be made for this very model"
        )
    return handle
