"""The bars that claims share, and what their cases are made of. No torch here: pytest collects claims without it.

SITES, PAIRS, KINDS   what the cases of claims are made of
the rest              bars, each written before it was first measured on a real model
"""

SITES = ("last_digit", "open_paren")
"""Where activations are read: the last token of the result, and the ` (` after which the remark comes."""
PAIRS = ("role_swapped", "target_edited")
"""Right beside wrong attempts; the first are those that repetition cannot tell apart."""
KINDS = ("zero", "mean", "resample")
"""How heads are replaced: by nothing, by their mean, or by what they read out in the partner of the pair."""
VECTORS = ("valid", "valid+invalid")
"""Which value vectors are zeroed: the nearest to "right", or those nearest to "wrong" as well."""
WRONG = ("target_edited", "incorrect", "foil")
ONE_PROMPT = ("correct", *WRONG)
"""The attempts that share a prompt, one right and three wrong."""

SAYS = 0.8
"""Share of attempts that must get the right remark for a model to say it."""
TELLS = 0.75
"""AUC from which it tells right from wrong: half of the way from guessing to certainty."""
ROLE = 0.1
"""Share of a gap that must be left by role alone: below, nine tenths of what tells right from wrong is repetition."""
PROBE_READS = 0.75
"""Balanced accuracy from which a probe points at anything."""
ATTENDS = 0.1
"""Attention mass from which a head attends to the target (the published A_Prev)."""
NEAREST = 50
"""Value vectors of the second half of the layers that are looked at."""
CLUSTER, CLUSTER_TOP = 3, 10
"""So many of so many first words must be of the lexicon for a value vector to name it."""
TABLES = {"table of success": "success", "table of failure": "failure"}
"""Cases that are about published tables, by which kind of vectors."""
ZEROED = 50 / 11008
"""Of a layer's value vectors, how many are zeroed; published: 50 of 11008."""
SWEEP_PAIRS = 36
"""Pairs, a problem each, that interventions are run on."""
LITTLE_MOVED = 0.05
"""Distance of weights, of their norm, within which they are nearly the same."""
FEWEST = 16
"""Right attempts that must be called right for anything to be lost."""
FEW = 3
"""Heads: "as few as three" (arXiv 2504.14379)."""
