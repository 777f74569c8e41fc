"""A forecast of the carbon dioxide in the air of Mauna Loa for the next twelve months by an LSTM.

examples/data/co2.csv has weekly measurements from 1958 to 2001. The network reads three years of monthly means, each as
the change up to the last of them, and is trained on the years before 1985. The simplest good forecast repeats the last
year, raised by the change since the year before; both are compared in the years that the network has not seen:
    dbp run -n 2 -- examples/co2.py
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import dbp
from dbp.nn import LSTM, Dense
from dbp.parallel import world

HISTORY, AHEAD = 36, 12  # months
FIRST_YEAR, SPLIT_YEAR = 1958, 1985


def monthly_means(path):
    """Return the mean of each month from the first to the last, by interpolation where no week was measured."""
    with path.open(newline="") as file:
        rows = [(row["date"], float(row["co2"])) for row in csv.DictReader(file) if row["co2"]]
    months = np.array([(int(date[:4]) - FIRST_YEAR) * 12 + int(date[4:6]) - 1 for date, _ in rows])
    count, total = np.bincount(months), np.bincount(months, [value for _, value in rows])
    known = np.flatnonzero(count)
    return known[0], np.interp(np.arange(known[0], len(count)), known, total[known] / count[known])


def windows(series, first):
    """Return the histories (count, HISTORY, 1), what follows them (count, AHEAD), and the year in which that begins."""
    starts = np.arange(len(series) - HISTORY - AHEAD + 1)
    rows = series[starts[:, None] + np.arange(HISTORY + AHEAD)]
    changes = rows - rows[:, HISTORY - 1 : HISTORY]
    return changes[:, :HISTORY, None], changes[:, HISTORY:], FIRST_YEAR + (first + starts + HISTORY) // 12


def repeated(histories):
    """Return the last year of each history, raised by its change since the year before."""
    year = histories[:, -12:, 0]
    return year - histories[:, -13:-12, 0]


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
options = parser.parse_args()

first, series = monthly_means(Path(__file__).parent / "data" / "co2.csv")
histories, following, years = windows(series, first)
before, after = years + 1 < SPLIT_YEAR, years >= SPLIT_YEAR  # no month is in both
trained = dbp.fit(
    model=[LSTM(32, sequences=False), Dense(AHEAD)],
    loss="mean_squared_error",
    data=dbp.Data(train=(histories[before], following[before]), test=(histories[after], following[after])),
    metrics=["rmse"],
    optimizer=dbp.optim.Adam(learning_rate=3e-3),
    schedule="cosine",
    epochs=options.epochs,
    batch_size=32,
    shards=2,
)
forecasts = {"the last year again": repeated(histories[after]), "LSTM": trained.predict(histories[after])}
for name, found in forecasts.items():
    error = np.sqrt(np.mean((found - following[after]) ** 2, axis=0))
    if world().rank == 0:
        months = f"from {error[0]:.2f} after one month to {error[-1]:.2f} after twelve"
        print(f"{name}: error {error.mean():.2f} ppm, {months}")
