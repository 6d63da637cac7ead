"""A local Engagement API, for tests and demonstrations: as strict as the documentation, with faults on demand.

It shares no code with the client but the table of endpoints (paths, limits, metrics), so a defect of one does not hide in
the other. Names are loaded on first use, so that the pytest plugin costs a test run nothing.
"""

import lazy_loader

# Loaded on first use, as the stub beside this file lists them: pytest imports this package for its plugin.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
