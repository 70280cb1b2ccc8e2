"""What would end a run is found out before its first claim.

check   the device, the problems and the files that were asked for
"""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from claims.harness.options import Options, refusing
from claims.harness.session import workbench
from claims.measured.dataset import the_attempts
from fixtures.checkpoints import locate, precheck


def check(options: Options, names: Sequence[str]) -> None:
    """Raises pytest.UsageError: the device is not there, there are not so many problems, a download fails."""
    if options.device not in ("auto", "cpu"):  # of any other torch alone knows
        with refusing("--device: "):
            workbench().check_device(options.device)
    with refusing(f"--n-problems {options.n_problems}: "):
        for seed in tqdm(options.seeds, desc="problems", leave=False, disable=None):
            the_attempts(options.n_problems, seed)
    with refusing():
        for checkpoint in [*(options.models[name] for name in names), *filter(None, [options.reference])]:
            locate(checkpoint)
            precheck(checkpoint)
