from .reports import Gap as Gap
from .reports import PullReport as PullReport
from .reports import SeriesStatus as SeriesStatus
from .series import EngagementSeries as EngagementSeries
from .series import FillSpan as FillSpan

__all__ = ["EngagementSeries", "FillSpan", "Gap", "PullReport", "SeriesStatus"]
