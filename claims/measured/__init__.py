"""What several findings share, measured once a subject and seed, each part in a file named by what it holds.

Claims name it as `measured.share(...)`: a part loads, and torch with it, when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
