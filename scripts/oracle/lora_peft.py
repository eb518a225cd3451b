"""Freezes what PEFT makes of adapters and their configurations: tests/fixtures/lora.

    python scripts/oracle/lora_peft.py

Each case is a folder as `save_pretrained` leaves it, of a tiny network with a UNet's names. Per module
`PeftModel.from_pretrained(…).merge_and_unload()` adds scale · B A to the weight; the scale is frozen in cases.json, with
what the configuration says. The factors are the same in all cases of a rank, so one weight file serves them. Needs torch,
peft, safetensors.
"""

import json
import shutil
import tempfile
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/lora"
MODULES = [
    f"{block}.attentions.0.transformer_blocks.{layer}.{attention}.{name}"
    for block, layer in [("down_blocks.1", 0), ("down_blocks.1", 1), ("mid_block", 0), ("up_blocks.0", 0)]
    for attention in ["attn1", "attn2"]
    for name in ["to_q", "to_k", "to_out.0"]
]
BASE = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["to_q", "to_k", "to_out.0"]}
CASES = {
    "plain": {},
    "group": {"alpha_pattern": {"attn1.(to_q|to_k)": 1}},
    "dots": {"alpha_pattern": {"attn1.*to_q": 16}},
    "anchor": {"alpha_pattern": {"^down_blocks.*to_q": 32}},
    "suffix": {"alpha_pattern": {"attn1.to_q": 6, "o_q": 100}},
    "first-wins": {"alpha_pattern": {"to_q": 2, "attn1.to_q": 3, r"down_blocks\..*": 5, "to_k": 7}},
    "other-order": {"alpha_pattern": {"attn1.to_q": 3, "to_k": 7, "to_q": 2, r"down_blocks\..*": 5}},
    "whole": {"alpha_pattern": {MODULES[0]: 3, "mid_block": 9}},
    "end-anchor": {"alpha_pattern": {"to_q$": 3, "to_k$|to_q": 5}},
    "class": {"alpha_pattern": {r"transformer_blocks\.[1-9]\.attn[^1].to_[qk]": 3}},
    "look": {"alpha_pattern": {r"(?!down_blocks).*to_q": 3, r".*(?<=attn2)\.to_k": 5}},
    "reference": {"alpha_pattern": {r"down_blocks\.(1).*\.attn\3\.to_q": 3}},
    "open-groups": {"alpha_pattern": {"mid_block)|(up_blocks.0.*to_k": 3}},
    "case": {"alpha_pattern": {"(?i:ATTN2).TO_Q": 3, "(?i:attn2.TO_K)": 5}},
    "counts": {"alpha_pattern": {r"(\w+\.){7}to_q": 3, r"\w{2,}_k": 5, r".*t{2}n1.to_out.0": 9}},
    "fractions": {"lora_alpha": 2.5, "alpha_pattern": {"to_k": 0.25, "to_q": 0}},
    "no-alpha": {"lora_alpha": None},
    "rslora": {"use_rslora": True, "alpha_pattern": {"to_k": 3}},
    "expression-targets": {"target_modules": r".*attn\d\.to_(q|k|out\.0)", "alpha_pattern": {"to_k": 3}},
    "all-linear-fan": {"target_modules": BASE["target_modules"], "fan_in_fan_out": True, "lora_dropout": 0.5},
    "layers": {"layers_to_transform": [0, 1], "layers_pattern": "transformer_blocks"},
    "gaussian": {"init_lora_weights": "gaussian"},
}
# PEFT has another network for these, leaves factors out, or fails.
REFUSED = {
    "target_modules": {"target_modules": ["to_q", "to_k"]},
    "exclude_modules": {"exclude_modules": ["attn1.to_k"]},
    "layers_to_transform": {"layers_to_transform": [0], "layers_pattern": "transformer_blocks"},
    "r": {"rank_pattern": {"attn1.*to_q": 2}},
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "alpha_pattern": {"alpha_pattern": {"attn1.(to_q": 2}},
    "use_dora": {"use_dora": True},
}


class Node(torch.nn.Module):
    def forward(self, x):
        return x


def network():
    """A tree of modules that ends in linear layers."""
    root = Node()
    for path in MODULES:
        *parents, leaf = path.split(".")
        node = root
        for name in parents:
            if not hasattr(node, name):
                node.add_module(name, Node())
            node = getattr(node, name)
        node.add_module(leaf, torch.nn.Linear(3, 5, bias=False, dtype=torch.float64))
    return root


def merged(folder):
    """What the adapter adds to each module."""
    torch.manual_seed(1)
    plain = network()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    after = peft.PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict()
    return {name.removesuffix(".weight"): after[name] - value for name, value in before.items()}


def scales(folder, factors, case):
    config = {k: v for k, v in (BASE | case).items() if v is not None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    changes = merged(folder)
    found = []
    for module in MODULES:
        a, b = (factors[f"base_model.model.{module}.lora_{side}.weight"].double() for side in "AB")
        product = b @ a
        scale = ((changes[module] * product).sum() / (product * product).sum()).item()
        assert (changes[module] - scale * product).abs().max() < 1e-6, module
        found.append(round(scale, 6))
    return config, found


def main():
    OUT.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(2)
    factors = {}
    for module in MODULES:
        factors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(4, 3, generator=generator)
        factors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(5, 4, generator=generator)
    cases, refused = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_file(factors, folder / "adapter_model.safetensors")
        for name, case in CASES.items():
            config, found = scales(folder, factors, case)
            cases[name] = {"config": config, "scales": found}
        for name, case in REFUSED.items():
            refused[name] = BASE | case
            try:
                _, found = scales(folder, factors, case)
                assert 0.0 in found, name
            except Exception as error:
                print(f"{name}: {type(error).__name__}")
        shutil.copy(folder / "adapter_model.safetensors", OUT)
    lines = lambda entries: ",\n".join(f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in entries.items())
    parts = [f'{{"peft": "{peft.__version__}", "modules": {json.dumps(MODULES)},']
    parts += [f'"cases": {{\n{lines(cases)}\n}},', f'"refused": {{\n{lines(refused)}\n}}}}']
    (OUT / "peft.json").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
