"""The tables of a store, and the statements that merge a pull into them. Text alone: `store` executes it.

All instants are TIMESTAMP in UTC, without a time zone: a day is then the same day on every machine.
"""

from __future__ import annotations

from typing import Final

from engagement_async.series.readings import TweetState

__all__ = ["FORMAT", "MERGE_HOURS", "MERGE_TOTALS", "TABLES", "UPDATE_TWEETS"]

FORMAT: Final = "1"
"""Of the tables below."""

TABLES: Final = (
    "CREATE TABLE series_info (key VARCHAR NOT NULL, value VARCHAR NOT NULL)",
    """CREATE TABLE hours (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, engagement_type VARCHAR NOT NULL,
        engagement_hour TIMESTAMP NOT NULL, value BIGINT NOT NULL, is_partial BOOLEAN NOT NULL,
        observed_at TIMESTAMP NOT NULL, seen_s SMALLINT NOT NULL, is_edge BOOLEAN NOT NULL)""",
    """CREATE TABLE totals (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, engagement_type VARCHAR NOT NULL,
        observed_at TIMESTAMP NOT NULL, value BIGINT NOT NULL)""",
    """CREATE TABLE corrections (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, engagement_type VARCHAR NOT NULL,
        engagement_hour TIMESTAMP NOT NULL, value_before BIGINT NOT NULL, observed_before TIMESTAMP NOT NULL,
        value BIGINT NOT NULL, observed_at TIMESTAMP NOT NULL)""",
    """CREATE TABLE tweets (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, state VARCHAR NOT NULL, detail VARCHAR,
        first_asked_at TIMESTAMP NOT NULL, last_asked_at TIMESTAMP NOT NULL,
        wanted_from TIMESTAMP, wanted_to TIMESTAMP)""",
    """CREATE TABLE coverage (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, starts_at TIMESTAMP NOT NULL, ends_at TIMESTAMP NOT NULL)""",
    """CREATE TABLE left_out (
        owner VARCHAR NOT NULL, tweet_id VARCHAR NOT NULL, engagement_type VARCHAR NOT NULL,
        endpoint VARCHAR NOT NULL, observed_at TIMESTAMP NOT NULL)""",
    """CREATE TABLE pulls (
        endpoint VARCHAR NOT NULL, began_at TIMESTAMP NOT NULL, ended_at TIMESTAMP NOT NULL,
        starts_at TIMESTAMP, ends_at TIMESTAMP, requests BIGINT NOT NULL, answered BIGINT NOT NULL,
        unavailable BIGINT NOT NULL, forbidden BIGINT NOT NULL, failed BIGINT NOT NULL, corrections BIGINT NOT NULL)""",
    """CREATE VIEW totals_deltas AS
        SELECT *, value - lag(value) OVER per_series AS delta, lag(observed_at) OVER per_series AS observed_before
        FROM totals
        WINDOW per_series AS (PARTITION BY owner, tweet_id, engagement_type ORDER BY observed_at)""",
)

_KEY = "owner, tweet_id, engagement_type, engagement_hour"
_WINS = """(new.seen_s > old.seen_s OR new.seen_s = old.seen_s AND (
    NOT new.is_edge AND old.is_edge OR new.is_edge = old.is_edge AND new.observed_at >= old.observed_at))"""
"""Whether a reading of an hour replaces the one in the store: it saw more of the hour; or as much, but within its window and
not at the window's edge; or as much, and later. So the order of pulls does not matter."""
_SAME = " AND ".join(f"old.{name} = new.{name}" for name in _KEY.split(", "))

MERGE_HOURS: Final = (
    # Hours that an answer leaves out of a metric that it has are zeros; metrics that it leaves out are not.
    """CREATE TEMP TABLE new_hours AS
        WITH present AS (
            SELECT DISTINCT tweet_id, engagement_type FROM pulled_values
            ANTI JOIN pulled_left_out USING (tweet_id, engagement_type)),
        zeros AS (
            SELECT tweet_id, engagement_type, hour AS engagement_hour, 0::BIGINT AS value
            FROM (SELECT tweet_id, engagement_type,
                    unnest(generate_series(date_trunc('hour', r.starts_at), r.ends_at - INTERVAL 1 SECOND, INTERVAL 1 HOUR))
                    AS hour
                FROM present JOIN pulled_tweets r USING (tweet_id) WHERE r.starts_at IS NOT NULL)
            ANTI JOIN (SELECT tweet_id, engagement_type, engagement_hour AS hour FROM pulled_values)
                USING (tweet_id, engagement_type, hour)),
        found AS (
            SELECT r.owner, v.*, r.observed_at, v.engagement_hour >= r.whole_from
                    AND v.engagement_hour < r.whole_to AS is_whole, r.edge,
                date_diff('second', greatest(v.engagement_hour, r.starts_at),
                    least(v.engagement_hour + INTERVAL 1 HOUR, r.ends_at, r.observed_at)) AS seconds
            FROM (SELECT tweet_id, engagement_type, engagement_hour, value FROM pulled_values
                UNION ALL SELECT * FROM zeros) v
            JOIN pulled_tweets r USING (tweet_id)
            WHERE r.starts_at IS NOT NULL AND v.engagement_hour < r.ends_at
                AND v.engagement_hour + INTERVAL 1 HOUR > r.starts_at)
        SELECT owner, tweet_id, engagement_type, engagement_hour, value, NOT is_whole AS is_partial, observed_at,
            (CASE WHEN is_whole THEN 3600 ELSE least(greatest(seconds, 1), 3599) END)::SMALLINT AS seen_s,
            coalesce(engagement_hour = edge, false) AS is_edge
        FROM found""",
    f"""INSERT INTO corrections
        SELECT new.owner, new.tweet_id, new.engagement_type, new.engagement_hour, old.value, old.observed_at, new.value,
            new.observed_at
        FROM new_hours new JOIN hours old ON {_SAME} WHERE {_WINS} AND new.value < old.value""",  # noqa: S608 - ours
    f"""UPDATE hours AS old SET value = new.value, is_partial = new.is_partial, observed_at = new.observed_at,
            seen_s = new.seen_s, is_edge = new.is_edge
        FROM new_hours new WHERE {_SAME} AND {_WINS}""",  # noqa: S608
    f"""INSERT INTO hours SELECT owner, tweet_id, engagement_type, engagement_hour, value, is_partial, observed_at, seen_s,
            is_edge
        FROM new_hours ANTI JOIN hours USING ({_KEY})""",  # noqa: S608
    "DROP TABLE new_hours",
    """INSERT INTO coverage SELECT owner, tweet_id, whole_from, whole_to FROM pulled_tweets WHERE whole_from < whole_to""",
    """CREATE TEMP TABLE new_coverage AS
        SELECT owner, tweet_id, min(starts_at) AS starts_at, max(ends_at) AS ends_at
        FROM (SELECT *, sum(is_apart) OVER (PARTITION BY owner, tweet_id ORDER BY starts_at, ends_at
                ROWS UNBOUNDED PRECEDING) AS island
            FROM (SELECT *, CASE WHEN starts_at <= max(ends_at) OVER (PARTITION BY owner, tweet_id
                    ORDER BY starts_at, ends_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 0 ELSE 1 END
                    AS is_apart
                FROM coverage SEMI JOIN pulled_tweets USING (owner, tweet_id)))
        GROUP BY owner, tweet_id, island""",
    """DELETE FROM coverage USING pulled_tweets new
        WHERE coverage.owner = new.owner AND coverage.tweet_id = new.tweet_id""",
    "INSERT INTO coverage SELECT * FROM new_coverage",
    "DROP TABLE new_coverage",
)

MERGE_TOTALS: Final = (
    """INSERT INTO totals SELECT r.owner, v.tweet_id, v.engagement_type, r.observed_at, v.value
        FROM pulled_values v JOIN pulled_tweets r USING (tweet_id)
        ANTI JOIN totals old ON old.owner = r.owner AND old.tweet_id = v.tweet_id
            AND old.engagement_type = v.engagement_type AND old.observed_at = r.observed_at""",
)

UPDATE_TWEETS: Final = (
    """UPDATE tweets AS old SET state = new.state, detail = new.detail,
            last_asked_at = greatest(old.last_asked_at, new.asked_at),
            wanted_from = least(old.wanted_from, new.wanted_from), wanted_to = greatest(old.wanted_to, new.wanted_to)
        FROM pulled_tweets new WHERE old.owner = new.owner AND old.tweet_id = new.tweet_id""",
    """INSERT INTO tweets SELECT owner, tweet_id, state, detail, asked_at, asked_at, wanted_from, wanted_to
        FROM pulled_tweets ANTI JOIN tweets USING (owner, tweet_id)""",
    f"""DELETE FROM left_out USING pulled_tweets new
        WHERE new.state = '{TweetState.ANSWERED}' AND left_out.owner = new.owner AND left_out.tweet_id = new.tweet_id
            AND left_out.endpoint = new.endpoint""",  # noqa: S608 - ours
    """INSERT INTO left_out SELECT r.owner, new.tweet_id, new.engagement_type, new.endpoint, r.observed_at
        FROM pulled_left_out new JOIN pulled_tweets r USING (tweet_id) WHERE r.observed_at IS NOT NULL""",
)
