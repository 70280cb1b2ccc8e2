"""Direct effects: what an edit does by itself, without what other components make of it.

direct   an intervention with everything downstream of it frozen
"""

from __future__ import annotations

from mechinterp.errors import MechinterpError
from mechinterp.freezing import Freeze
from mechinterp.interventions import Intervention, parts
from mechinterp.row_edits import HEADS
from mechinterp.subject import Subject, check_subject
from mechinterp.tables import begins


def direct(subject: Subject, intervention: Intervention) -> Intervention:
    """The intervention beside a Freeze of every head and MLP that reads what it changes.

    Nothing but the direct path from what is edited to the final norm and the unembedding moves; that norm scales by the
    whole stream, which the edit changes too. What is edited itself is not held there.

    Raises:
        MechinterpError: no intervention, or one that the model cannot have.
    """
    check_subject(subject)
    if not parts(intervention):
        raise MechinterpError("direct: expected an intervention; the clean run has no effect")
    anatomy, first = subject.anatomy, begins(intervention)
    anatomy.check_layer(first.layer)
    heads = [(layer, head) for layer in range(first.layer + 1, anatomy.n_layers) for head in range(anatomy.n_heads)]
    mlps = range(first.layer + (first.kind != HEADS), anatomy.n_layers)
    if not heads and not mlps:
        return intervention
    return (intervention, Freeze(heads, tuple(mlps)))
