"""A local Engagement API, for tests and demonstrations: as strict as the documentation, with bad days on demand.

It shares nothing with the client but the table of endpoints. Names are loaded when they are first used, so that the
pytest plugin costs a test run nothing.
"""

import lazy_loader

# Loaded on first use, as the stub beside this file lists them: pytest imports this package for its plugin.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
