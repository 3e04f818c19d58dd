"""Dates: a meeting seen from several time zones, daylight saving gaps, ISO weeks, a month's calendar, ages."""

import calendar
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham")


def meeting(instant):
    for name in ZONES:
        local = instant.astimezone(ZoneInfo(name))
        print(f"{name:<20}{local:%a %d %b %Y %H:%M %Z %z}")


def saving_changes(zone, year):
    """Instants in UTC at which the offset changes."""
    instant = datetime(year, 1, 1, tzinfo=UTC)
    offset = instant.astimezone(zone).utcoffset()
    while instant.year == year:
        instant += timedelta(minutes=30)
        now = instant.astimezone(zone).utcoffset()
        if now != offset:
            yield instant, now - offset
            offset = now


def age(born, today):
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def main():
    meeting(datetime(2024, 3, 12, 21, 30, tzinfo=UTC))
    for instant, change in saving_changes(ZoneInfo("Europe/Berlin"), 2024):
        print(instant.isoformat(), int(change.total_seconds()))
    gap = datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    print("gap", gap.astimezone(UTC).astimezone(gap.tzinfo).time(), gap.replace(fold=1).utcoffset())
    print("week", date(2021, 1, 3).isocalendar()[:2], date.fromisocalendar(2020, 53, 7))
    print(calendar.TextCalendar(calendar.MONDAY).formatmonth(2024, 2), end="")
    print("fridays", sum(date(2025, month, 13).weekday() == 4 for month in range(1, 13)))
    print("ages", [age(date(2000, 2, 29), date(2023, 2, 28 + day)) if day == 0 else
                   age(date(2000, 2, 29), date(2023, 3, day)) for day in (0, 1)])
    print("parsed", datetime.strptime("05/Mar/2024:07:08:09 -0330", "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC))
    print("fixed", datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45), "NPT")))
    try:
        ZoneInfo("Mars/Olympus")
    except ZoneInfoNotFoundError as error:
        print("unknown", error.args[0])


main()
