"""A notebook in percent format: open it in VS Code, PyCharm or, with Jupytext, in Jupyter. Cells can `await` directly."""

# %% [markdown]
# # Engagement of my Tweets

# %%
import pandas as pd
from settings import make_client, read_tweet_ids
from tqdm.auto import tqdm

from engagement_async import LAST_28_HOURS, Merger, Query

tweet_ids = read_tweet_ids("tweets.txt")

# %% [markdown]
# Totals: one request for up to 250 Tweets.

# %%
async with make_client() as client:
    totals = await client.totals(
        tweet_ids,
        engagement_types=["favorites", "retweets", "replies"],
        groupings={"by_tweet": ["tweet.id", "engagement.type"]},
    )
totals

# %% [markdown]
# One row per Tweet, one column per metric. Tweet IDs stay text: as floats they would lose digits.

# %%
table = pd.DataFrame(totals.rows("by_tweet")).pivot(index="tweet_id", columns="engagement_type", values="value")
table.sort_values("favorites", ascending=False).head(10)

# %% [markdown]
# The last 28 hours, hour by hour, with a progress bar: answers arrive in batches of 25 Tweets.

# %%
query = Query(
    LAST_28_HOURS,
    engagement_types=["impressions"],
    groupings={"by_hour": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
)
merger = Merger(query)
async with make_client() as client:
    with tqdm(total=len(tweet_ids), unit=" Tweets") as bar:
        async with client.stream(query, tweet_ids) as answers:
            async for answer in answers:
                merger.add(answer)
                bar.update(len(answer.tweet_ids))
hours = pd.DataFrame(merger.result().rows("by_hour"))

# %%
impressions = hours.groupby("engagement_hour")["value"].sum()
impressions.tail()
