from .anatomy import Anatomy, anatomy_of, unsupported
from .errors import MechinterpError
from .evidence import Control, Evidence, InstrumentError, PreconditionUnmet, Threshold, Verdict, verdict_of
from .subject import Subject

__all__ = [
    "Anatomy",
    "Control",
    "Evidence",
    "InstrumentError",
    "MechinterpError",
    "PreconditionUnmet",
    "Subject",
    "Threshold",
    "Verdict",
    "anatomy_of",
    "unsupported",
    "verdict_of",
]
