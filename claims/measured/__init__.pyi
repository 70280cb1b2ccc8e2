from .asked import Asked
from .dataset import dataset_hash, the_attempts
from .few_heads import FewHeads
from .firing import Firing, activations, fired
from .frozen import frozen_heads, frozen_probe
from .head_names import by_head, component_names, head_grid, head_names, jaccard, over_heads
from .heads_off import HeadsOff
from .laboratory import Laboratory, open_lab
from .lens_evidence import shown_before_said, shown_most
from .moved_weights import MovedWeights, require_two
from .named_values import named_near_column, named_near_probe, names_as_published
from .naming import Naming, random_directions
from .neurons_off import DOSE, DoseCurve, NeuronsOff, matched_sets, v_without, zeroed
from .observations import Observations
from .other_text import damage
from .pairs import beyond_rival, class_levels, gap, hardest_auc, pair_auc, parts, share, shift_rival
from .prior import Prior
from .probing import Probing
from .published import PublishedProbe, called_right_without, named_by_column, nearest_in_each_layer, nearest_to_column
from .published_ranking import ranked_by_valid_vectors
from .repeats import Repeats
from .rivals import lens_accuracy, own_remarks, surface_accuracy, untrained_accuracy
from .rungs import Ladder, by_kind
from .shared_circuit import SharedCircuit, require_counterparts, same_within
from .timing import EARLIER, Timing, published_early
from .untold import Opposites
from .value_vectors import ValueVectors
from .vector_tables import table_overlap

__all__ = [
    "DOSE",
    "EARLIER",
    "Asked",
    "DoseCurve",
    "FewHeads",
    "Firing",
    "HeadsOff",
    "Laboratory",
    "Ladder",
    "MovedWeights",
    "Naming",
    "NeuronsOff",
    "Observations",
    "Opposites",
    "Prior",
    "Probing",
    "PublishedProbe",
    "Repeats",
    "SharedCircuit",
    "Timing",
    "ValueVectors",
    "activations",
    "beyond_rival",
    "by_head",
    "by_kind",
    "called_right_without",
    "class_levels",
    "component_names",
    "damage",
    "dataset_hash",
    "fired",
    "frozen_heads",
    "frozen_probe",
    "gap",
    "hardest_auc",
    "head_grid",
    "head_names",
    "jaccard",
    "lens_accuracy",
    "matched_sets",
    "named_by_column",
    "named_near_column",
    "named_near_probe",
    "names_as_published",
    "nearest_in_each_layer",
    "nearest_to_column",
    "open_lab",
    "over_heads",
    "own_remarks",
    "pair_auc",
    "parts",
    "published_early",
    "random_directions",
    "ranked_by_valid_vectors",
    "require_counterparts",
    "require_two",
    "same_within",
    "share",
    "shift_rival",
    "shown_before_said",
    "shown_most",
    "surface_accuracy",
    "table_overlap",
    "the_attempts",
    "untrained_accuracy",
    "v_without",
    "zeroed",
]
