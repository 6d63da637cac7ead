"""Reports: what a job, a series or a result has to say, as one HTML page that loads nothing.

>>> write_report("jobs/may", "report.html")

docs/reports.md says what is in it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
