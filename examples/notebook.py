# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Engagement of my Tweets
#
# Cells can `await`. Without credentials of your own: run `engagement emulator` in a shell, and start Jupyter in another one,
# where you pasted the lines that it prints. `make notebook` makes `notebook.ipynb` of `notebook.py`.

# %%
from settings import BASE_URL, credentials, make_client, rate_limit, read_tweet_ids

from engagement_async import TOTALS, CallProgress, Query
from engagement_async.backfill import BackfillJob
from engagement_async.series import EngagementSeries

tweet_ids = read_tweet_ids("tweets.txt")

# %% [markdown]
# Totals: one request for up to 250 Tweets. `progress=True` draws a bar while it waits. A result shows itself as tables.

# %%
async with make_client() as client:
    totals = await client.totals(
        tweet_ids,
        engagement_types=["favorites", "retweets", "replies"],
        groupings={"by_tweet": ["tweet.id", "engagement.type"]},
        progress=True,
    )
totals

# %% [markdown]
# One row per Tweet, one column per metric. Tweet IDs stay text: as floats they would lose digits.

# %%
table = totals.to_pandas("by_tweet", wide=True).set_index("tweet_id")
table.sort_values("favorites", ascending=False).head(5)

# %% [markdown]
# Four weeks, day by day. Instead of a bar, a function of your own may get the progress.

# %%
seen: list[CallProgress] = []
async with make_client() as client:
    result = await client.historical(
        tweet_ids,
        engagement_types=["impressions", "engagements"],
        groupings={"by_day": ["tweet.id", "engagement.type", "engagement.day"]},
        start="2025-12-01",
        end="2025-12-29",
        progress=seen.append,
    )
seen[-1].ids_done, seen[-1].ids_total, seen[-1].requests

# %%
days = result.to_pandas("by_day", wide=True)
days.groupby("engagement_day")[["impressions", "engagements"]].sum().head(5)

# %% [markdown]
# A job for what takes hours: it can be stopped at any moment, also by the kernel's end, and the same cell goes on with it.

# %%
job = BackfillJob("jobs/totals")
query = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
await job.start(query, tweet_ids)
await job.run(credentials(), rate_limit=rate_limit(), base_url=BASE_URL, progress=True)

# %%
job

# %% [markdown]
# A running series of the same Tweets: each pull adds what is new. Run this cell once a day.

# %%
series = EngagementSeries("jobs/tweets.duckdb")
async with make_client() as client:
    report = await series.pull(client, tweet_ids, engagement_types=["impressions", "favorites"])
report

# %%
series
