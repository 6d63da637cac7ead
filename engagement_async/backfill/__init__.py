"""Durable jobs of millions of IDs: where the IDs come from, how they are requested, and where the tables go.

Names are loaded when they are first used: reading IDs from a file needs no HTTP client.
"""

import lazy_loader

# Loaded on first use, as the stub beside this file lists them: pytest imports this package for its plugin.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
