"""Rows of several dialogues in a hybrid: each is computed as if it were alone, by transformers' own forward pass."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install edgellm[train]")
pytest.importorskip("transformers.models.qwen3_5", reason="needs transformers with Qwen3.5")

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")]


def test_a_dialogue_does_not_see_the_one_before_it() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from edgellm.models.training.configs import model_config
    from edgellm.models.training.train import build_model

    model = build_model("tiny-qwen35", 1).eval()
    plain = (
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**model_config("tiny-qwen35"))).float().eval()
    )
    plain.load_state_dict(model.state_dict())
    lengths = (70, 3, 1, 76)
    ids = torch.randint(0, 4096, (1, sum(lengths)), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    seen = (owner[:, :, None] == owner[:, None, :]) & torch.ones(
        len(ids[0]), len(ids[0]), dtype=torch.bool
    ).tril()
    mask = torch.zeros(seen.shape).masked_fill(~seen, -1e9)[:, None]
    masks = {"full_attention": mask, "linear_attention": positions == 0}
    with torch.no_grad():
        found = model.model(input_ids=ids, position_ids=positions, attention_mask=masks, use_cache=False)
        alone = [
            plain.model(input_ids=part, use_cache=False).last_hidden_state for part in ids.split(lengths, 1)
        ]
    expected = torch.cat(alone, 1)
    assert (found.last_hidden_state - expected).abs().max() < 1e-5 * expected.abs().max()
