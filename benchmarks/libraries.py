"""The same three tasks in four ways, on the same weights: ours, plain hooks, transformer-lens and nnsight.

Each class has `ablated` (the verdict's two logits at the last token under each set of heads), `captured` (activations
at the last token) and `generated` (continuations under one ablation). The others loop over interventions, as their
users do, with all they offer against waste: one batch of prompts, logits of the last token only, a KV cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

import mechinterp as mi

Heads = Sequence[mi.Head]
TOKENS = (5, 6)  # of the metric; any two


class Ours:
    name = "mechinterp"

    def __init__(self, subject: mi.Subject) -> None:
        self.subject = subject

    def ablated(self, ids: Tensor, sets: Sequence[Heads], *, everywhere: bool) -> Tensor:
        metric = mi.Metric(lambda read: read.logits(TOKENS))
        scope = mi.everywhere if everywhere else mi.last
        return mi.sweep(self.subject, ids.tolist(), [mi.AblateHeads(heads) for heads in sets], metric, scope=scope)

    def captured(self, ids: Tensor, residual: Sequence[int], neurons: Sequence[int]) -> list[Tensor]:
        final = torch.full((len(ids), 1), ids.shape[1] - 1)
        with mi.capture(self.subject, final, residual=residual, neurons=neurons) as seen, torch.no_grad():
            self.subject.model(ids, use_cache=False, logits_to_keep=1)
        return [seen.residual[layer][:, 0] for layer in residual] + [seen.neurons[layer][:, 0] for layer in neurons]

    def generated(self, ids: Tensor, heads: Heads, new: int) -> Tensor:
        texts = mi.generate(
            self.subject, ids.tolist(), [mi.AblateHeads(heads)], scope=mi.everywhere, max_new_tokens=new, stop=[]
        )
        return torch.tensor([text for (text,) in texts])


class PlainHooks:
    name = "plain hooks"

    def __init__(self, subject: mi.Subject) -> None:
        self.anatomy, self.model = subject.anatomy, subject.model

    def edited(self, stack: ExitStack, heads: Heads, *, everywhere: bool) -> None:
        width = self.anatomy.d_head
        for layer in {layer for layer, _ in heads}:
            columns = [c for at, head in heads if at == layer for c in range(head * width, (head + 1) * width)]

            def zero(module: torch.nn.Module, args: tuple[Tensor], columns: list[int] = columns) -> tuple[Tensor]:
                inputs = args[0].clone()
                inputs[:, slice(None) if everywhere else slice(-1, None), columns] = 0
                return (inputs,)

            stack.callback(self.anatomy.o_proj(layer).register_forward_pre_hook(zero).remove)

    @torch.no_grad()
    def ablated(self, ids: Tensor, sets: Sequence[Heads], *, everywhere: bool) -> Tensor:
        results = []
        for heads in sets:
            with ExitStack() as stack:
                self.edited(stack, heads, everywhere=everywhere)
                results.append(self.model(ids, use_cache=False, logits_to_keep=1).logits[:, -1, list(TOKENS)])
        return torch.stack(results, dim=1)

    @torch.no_grad()
    def captured(self, ids: Tensor, residual: Sequence[int], neurons: Sequence[int]) -> list[Tensor]:
        found: list[Tensor] = []
        with ExitStack() as stack:
            for layer in residual:
                module = self.anatomy.layers[layer]
                hook = module.register_forward_hook(lambda module, args, output: found.append(output[:, -1].clone()))
                stack.callback(hook.remove)
            for layer in neurons:
                module = self.anatomy.down_proj(layer)
                hook = module.register_forward_pre_hook(lambda module, args: found.append(args[0][:, -1].clone()))
                stack.callback(hook.remove)
            self.model(ids, use_cache=False, logits_to_keep=1)
        return found

    @torch.no_grad()
    def generated(self, ids: Tensor, heads: Heads, new: int, *, cached: bool = True) -> Tensor:
        with ExitStack() as stack:
            self.edited(stack, heads, everywhere=True)
            made = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new, max_new_tokens=new,
                use_cache=cached, pad_token_id=0,
            )  # fmt: skip
        return made[:, ids.shape[1] :]


class TransformerLens:
    name = "transformer-lens"

    def __init__(self, subject: mi.Subject) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        self.bridge = TransformerBridge.boot_transformers(
            subject.model.config._name_or_path, hf_model=copy.deepcopy(subject.model), tokenizer=subject.tokenizer,
            device="cpu", dtype=torch.float32,
        )  # fmt: skip

    def hooks(self, heads: Heads, *, everywhere: bool) -> list[tuple[str, Callable[..., Tensor]]]:
        def zero(of: list[int]) -> Callable[..., Tensor]:
            def hook(z: Tensor, hook: object) -> Tensor:
                z = z.clone()
                z[:, slice(None) if everywhere else slice(-1, None), of] = 0
                return z

            return hook

        layers = {layer for layer, _ in heads}
        return [(f"blocks.{layer}.attn.hook_z", zero([h for at, h in heads if at == layer])) for layer in layers]

    @torch.no_grad()
    def ablated(self, ids: Tensor, sets: Sequence[Heads], *, everywhere: bool) -> Tensor:
        results = []
        for heads in sets:
            hooks = self.hooks(heads, everywhere=everywhere)
            logits = self.bridge.run_with_hooks(ids, fwd_hooks=hooks, logits_to_keep=1)
            results.append(logits[:, -1, list(TOKENS)])
        return torch.stack(results, dim=1)

    @torch.no_grad()
    def captured(self, ids: Tensor, residual: Sequence[int], neurons: Sequence[int]) -> list[Tensor]:
        names = [f"blocks.{layer}.hook_resid_post" for layer in residual]
        names += [f"blocks.{layer}.mlp.hook_post" for layer in neurons]
        _, cache = self.bridge.run_with_cache(ids, names_filter=names, logits_to_keep=1)
        return [cache[name][:, -1] for name in names]

    @torch.no_grad()
    def generated(self, ids: Tensor, heads: Heads, new: int) -> Tensor:
        with self.bridge.hooks(fwd_hooks=self.hooks(heads, everywhere=True)):
            made = self.bridge.generate(
                ids, max_new_tokens=new, do_sample=False, stop_at_eos=False, verbose=False, return_type="tokens"
            )
        return made[:, ids.shape[1] :]


class NNsight:
    name = "nnsight"

    def __init__(self, subject: mi.Subject) -> None:
        from nnsight import TransformersModel

        self.anatomy = subject.anatomy
        self.model = TransformersModel(
            copy.deepcopy(subject.model), task="text-generation", tokenizer=subject.tokenizer
        )

    def columns(self, heads: Heads) -> list[tuple[int, list[int]]]:
        width = self.anatomy.d_head
        return [
            (layer, [c for at, head in heads if at == layer for c in range(head * width, (head + 1) * width)])
            for layer in sorted({layer for layer, _ in heads})
        ]

    @torch.no_grad()
    def ablated(self, ids: Tensor, sets: Sequence[Heads], *, everywhere: bool) -> Tensor:
        results = []
        first = 0 if everywhere else ids.shape[1] - 1
        for heads in sets:
            edits = self.columns(heads)
            with self.model.trace({"input_ids": ids}, logits_to_keep=1):
                for layer, columns in edits:
                    self.model.model.layers[layer].self_attn.o_proj.input[:, first:, columns] = 0
                logits = self.model.lm_head.output[:, -1].save()
            results.append(logits[:, list(TOKENS)])
        return torch.stack(results, dim=1)

    @torch.no_grad()
    def captured(self, ids: Tensor, residual: Sequence[int], neurons: Sequence[int]) -> list[Tensor]:
        with self.model.trace({"input_ids": ids}, logits_to_keep=1):
            found: list[Tensor] = []
            for layer in range(self.anatomy.n_layers):
                if layer in neurons:
                    found.append(self.model.model.layers[layer].mlp.down_proj.input[:, -1].clone())
                if layer in residual:
                    found.append(self.model.model.layers[layer].output[:, -1].clone())
            found.save()  # type: ignore[attr-defined]
        return found

    @torch.no_grad()
    def generated(self, ids: Tensor, heads: Heads, new: int) -> Tensor:
        edits = self.columns(heads)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with self.model.generate(
            batch, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
        ) as tracer:
            for _ in tracer.iter[:new]:
                for layer, columns in edits:
                    self.model.model.layers[layer].self_attn.o_proj.input[:, :, columns] = 0
            made = tracer.result.save()
        return made[:, ids.shape[1] :]


LIBRARIES = (Ours, PlainHooks, TransformerLens, NNsight)
