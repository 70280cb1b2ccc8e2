from .aim import Edit
from .anatomy import Anatomy, anatomy_of
from .attention import attention_to
from .attribution import Attribution, attribution, rank_correlation
from .capture import Captured, capture, mean_heads, mean_neurons
from .checks import check_instruments
from .configuration import unsupported
from .direct import direct
from .errors import MechinterpError
from .evidence import (
    Control,
    Evidence,
    InstrumentError,
    Interval,
    PreconditionUnmet,
    Threshold,
    Verdict,
    verdict_of,
    verdict_of_seeds,
)
from .freezing import CleanRun, Freeze, clean_run, freeze
from .generate import generate
from .heads import HeadSets, attending_heads, matched_head_sets
from .intervene import Head, Neuron, ablate_heads, ablate_neurons, steer
from .interventions import AblateHeads, AblateNeurons, Intervention, Steer, TransplantHeads, TransplantValues, under
from .lens import lens_probability, logit_lens, nearest_tokens, unembed_directions
from .metric import Metric, Readout, log_odds
from .nulls import Draws, with_null
from .ov import head_value_weights, ov_diagonal, ov_matrix, ov_outputs
from .passes import Pass
from .positions import Scope, at, everywhere, last, maybe, since, when_last_is
from .prepared import Prepared, prepare
from .probe import LinearProbe, fit_probes
from .resumed import resumed
from .single_heads import SingleHeads, circuit_only, other_heads, single_heads
from .stats import auc, equivalence_p, exceedance_p, mean_interval, paired_p, share_interval, statistic_interval
from .store import Store, code_digest, digest
from .subject import Subject
from .sweep import sweep
from .tokens import Batch, batches, last_logits, pad
from .transplants import transplant_heads, transplant_values
from .values import draw_matched, head_output_weights, head_outputs, matched_neurons, nearest_values, value_vectors
from .vocabulary import token_texts
from .weights import WeightChanges, weight_changes

__all__ = [
    "AblateHeads",
    "AblateNeurons",
    "Anatomy",
    "Attribution",
    "Batch",
    "Captured",
    "CleanRun",
    "Control",
    "Draws",
    "Edit",
    "Evidence",
    "Freeze",
    "Head",
    "HeadSets",
    "InstrumentError",
    "Interval",
    "Intervention",
    "LinearProbe",
    "MechinterpError",
    "Metric",
    "Neuron",
    "Pass",
    "PreconditionUnmet",
    "Prepared",
    "Readout",
    "Scope",
    "SingleHeads",
    "Steer",
    "Store",
    "Subject",
    "Threshold",
    "TransplantHeads",
    "TransplantValues",
    "Verdict",
    "WeightChanges",
    "ablate_heads",
    "ablate_neurons",
    "anatomy_of",
    "at",
    "attending_heads",
    "attention_to",
    "attribution",
    "auc",
    "batches",
    "capture",
    "check_instruments",
    "circuit_only",
    "clean_run",
    "code_digest",
    "digest",
    "direct",
    "draw_matched",
    "equivalence_p",
    "everywhere",
    "exceedance_p",
    "fit_probes",
    "freeze",
    "generate",
    "head_output_weights",
    "head_outputs",
    "head_value_weights",
    "last",
    "last_logits",
    "lens_probability",
    "log_odds",
    "logit_lens",
    "matched_head_sets",
    "matched_neurons",
    "maybe",
    "mean_heads",
    "mean_interval",
    "mean_neurons",
    "nearest_tokens",
    "nearest_values",
    "other_heads",
    "ov_diagonal",
    "ov_matrix",
    "ov_outputs",
    "pad",
    "paired_p",
    "prepare",
    "rank_correlation",
    "resumed",
    "share_interval",
    "since",
    "single_heads",
    "statistic_interval",
    "steer",
    "sweep",
    "token_texts",
    "transplant_heads",
    "transplant_values",
    "under",
    "unembed_directions",
    "unsupported",
    "value_vectors",
    "verdict_of",
    "verdict_of_seeds",
    "weight_changes",
    "when_last_is",
    "with_null",
]
