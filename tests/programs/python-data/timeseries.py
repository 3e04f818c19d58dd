"""A time series in pandas: gaps, resampling, rolling windows, time zones, seasonal means, a forecast."""

import numpy as np
import pandas as pd


def load(path):
    series = pd.read_csv(path, index_col="time", parse_dates=True)["value"]
    return series.sort_index().tz_localize("UTC")


def gaps(series):
    expected = pd.date_range(series.index[0], series.index[-1], freq="h")
    return expected.difference(series.index)


def main():
    series = load("inputs/readings.csv")
    missing = gaps(series)
    print("readings", len(series), "missing", len(missing), missing[0].isoformat())
    hourly = series.reindex(series.index.union(missing))
    filled = hourly.interpolate("time")
    print("filled", int(filled.isna().sum()), f"{filled[missing[0]]:.3f}")

    daily = series.resample("D").agg(["min", "max", "count"])
    print("daily", daily.shape, [int(v) for v in daily.iloc[0]], daily["count"].idxmin().date())
    local = series.tz_convert("America/New_York")
    by_day = local.groupby(local.index.date).size()
    print("local", by_day.index[0], int(by_day.iloc[0]), int(by_day.iloc[-1]))

    rolling = series.rolling(24, min_periods=24).mean()
    print("rolling", int(rolling.isna().sum()), f"{rolling.iloc[23]:.4f} {rolling.iloc[-1]:.4f}")
    by_hour = series.groupby(series.index.hour).mean()
    print("hour", int(by_hour.idxmax()), int(by_hour.idxmin()))
    weekend = series[series.index.dayofweek >= 5]
    print("weekend", len(weekend))

    x = np.arange(len(filled))
    slope, intercept = np.polyfit(x, filled.to_numpy(), 1)
    print("trend", slope > 0, len(filled))
    change = series.diff().abs()
    print("jump", change.idxmax().isoformat(), f"{change.max():.1f}")
    daily.to_json("/output/daily.json", orient="index", date_format="iso", date_unit="s")


main()
