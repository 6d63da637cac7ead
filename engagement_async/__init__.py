"""Async engine for X's enterprise Engagement API.

IDs of any number go in, one accounted-for grouped result comes out, and the contract is never exceeded::

    from engagement_async import EngagementClient, OAuth1Credentials, RateLimit

    async with EngagementClient(OAuth1Credentials(...), rate_limit=RateLimit(300, period=60)) as client:
        result = await client.totals(
            tweet_ids,
            engagement_types=["favorites", "replies"],
            groupings={"by_tweet": ["tweet.id", "engagement.type"]},
        )
"""

import lazy_loader

__version__ = "0.1.0"

# Loaded on first use, as the stub beside this file lists them: pytest imports this package for its plugin.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
