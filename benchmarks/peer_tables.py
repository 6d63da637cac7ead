"""What a peer does at both ends: IDs out of a CSV file, and a tidy Parquet file out of the API's answers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["by_pandas", "by_polars", "ids_by_pandas", "ids_by_polars"]

Answer = dict[str, Any]


def ids_by_polars(path: Path) -> list[str]:
    """Return the distinct IDs."""
    import polars as pl

    frame = pl.read_csv(path, columns=["tweet_id"], schema_overrides={"tweet_id": pl.String})
    found: list[str] = frame["tweet_id"].unique(maintain_order=True).to_list()
    return found


def ids_by_pandas(path: Path) -> list[str]:
    """Return the distinct IDs."""
    import pandas as pd

    found: list[str] = pd.read_csv(path, usecols=["tweet_id"], dtype={"tweet_id": str})["tweet_id"].unique().tolist()
    return found


def by_polars(answers: Iterable[Answer], path: Path) -> None:
    """Write a row a value."""
    import polars as pl

    columns = _columns(answers)
    frame = pl.DataFrame(columns).with_columns(
        pl.col("engagement_type").cast(pl.Categorical), pl.col("value").cast(pl.Int64)
    )
    if "engagement_hour" in columns:
        hours = pl.col("engagement_hour").str.to_datetime("%Y-%m-%dT%H%M", time_zone="UTC", time_unit="ms")
        frame = frame.with_columns(hours)
    frame.write_parquet(path, compression="zstd")


def by_pandas(answers: Iterable[Answer], path: Path) -> None:
    """Write a row a value."""
    import pandas as pd

    columns = _columns(answers)
    frame = pd.DataFrame(columns)
    frame["engagement_type"] = frame["engagement_type"].astype("category")
    frame["value"] = pd.to_numeric(frame["value"])
    if "engagement_hour" in columns:
        frame["engagement_hour"] = pd.to_datetime(frame["engagement_hour"], format="%Y-%m-%dT%H%M", utc=True)
    frame.to_parquet(path, compression="zstd", index=False)


def _columns(answers: Iterable[Answer]) -> dict[str, list[Any]]:
    """Return a list for each column: quicker than a list of rows."""
    ids: list[str] = []
    types: list[str] = []
    hours: list[str] = []
    values: list[str] = []
    for answer in answers:
        for tweet_id, metrics in answer["by_tweet"].items():
            for metric, value in metrics.items():
                if isinstance(value, str):
                    ids.append(tweet_id)
                    types.append(metric)
                    values.append(value)
                    continue
                for day, by_hour in value.items():
                    for hour, count in by_hour.items():
                        ids.append(tweet_id)
                        types.append(metric)
                        hours.append(f"{day}T{hour}00")
                        values.append(count)
    columns: dict[str, list[Any]] = {"tweet_id": ids, "engagement_type": types}
    return {**columns, **({"engagement_hour": hours} if hours else {}), "value": values}
