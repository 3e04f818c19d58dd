"""Goes through a 20 MB input of `sensor;value` lines once, in bounded memory, and checks its digest."""

import hashlib
import os
import sys

PATH = sys.argv[1]


def main():
    digest = hashlib.sha256()
    low, high, total, count = {}, {}, {}, {}
    lines = 0
    with open(PATH, "rb") as file:
        for line in file:
            digest.update(line)
            lines += 1
            name, _, value = line.decode().rstrip("\n").partition(";")
            tenths = int(value.replace(".", ""))
            if name not in count:
                low[name] = high[name] = tenths
                total[name] = count[name] = 0
            if tenths < low[name]:
                low[name] = tenths
            elif tenths > high[name]:
                high[name] = tenths
            total[name] += tenths
            count[name] += 1
    print(os.path.getsize(PATH), lines, digest.hexdigest())
    for name in sorted(count):
        print(name, low[name], total[name], high[name], count[name])
    try:
        with open(PATH, "ab") as file:
            file.write(b"x")
    except OSError:
        print("read-only")


main()
