"""What a scope says of prompts before they are run.

prompt_slots  of each prompt, the slots of its tokens
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.passes import Pass
from mechinterp.positions import Maybe, Scope, checked_scope, reach_of, slots_of
from mechinterp.subject import Subject
from mechinterp.tokens import pad


def prompt_slots(subject: Subject, prompts: Sequence[Sequence[int]], scope: Scope, *, later: int = 0) -> list[Tensor]:
    """Of each prompt, what the scope says of its tokens, (T,).

    Args:
        later: tokens that each prompt may grow by, which the scope can speak of as well.

    Raises:
        MechinterpError: a position beyond a prompt's end, unless the scope is a `maybe`.
    """
    batch = pad(subject, prompts)
    real = batch.attention_mask.bool()
    now = Pass(torch.where(real, batch.position_ids, -1), batch.attention_mask.argmax(1), batch.input_ids)
    slots = slots_of(checked_scope(scope), now)
    reach = None if isinstance(scope, Maybe) else reach_of(scope)
    if reach is not None:
        reach.see(now)
        lengths = real.sum(1).to(reach.wanted.device)[:, None]
        for row, slot in (reach.never() & (reach.wanted >= lengths + later)).nonzero().tolist():
            grown = f" and grows by {later} at most" if later else ""
            raise MechinterpError(
                f"scope: position {int(reach.wanted[row, slot])} of prompt {row}, which has {len(prompts[row])} "
                f"tokens{grown}; give positions that there are, or maybe(scope)"
            )
    return [row[-len(prompt) :] for row, prompt in zip(slots, prompts, strict=True)]
