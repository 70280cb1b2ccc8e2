"""mechinterp: how a reasoning model is examined. `import mechinterp` is cheap; torch loads with the first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
