"""The running series: pulls of the last 28 hours and of totals, kept in a DuckDB file, with known gaps.

>>> series = EngagementSeries("tweets.duckdb")
>>> await series.pull(client, tweet_ids)
>>> await series.fill(client)

docs/series.md says what a pull keeps, and what it replaces.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
