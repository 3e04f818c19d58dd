"""Reads a binary file of packed records by struct, and draws their values into a BMP image."""

import array
import mmap
import struct

HEADER = struct.Struct(">4sHHI")
RECORD = struct.Struct("<IhH10sd")
WIDTH, HEIGHT = 120, 80


def records(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, major, minor, count = HEADER.unpack_from(data)
        if magic != b"RECS" or (major, minor) != (2, 1):
            raise ValueError(f"bad header {magic!r} {major}.{minor}")
        for number in range(count):
            yield RECORD.unpack_from(data, HEADER.size + number * RECORD.size)
        trailer = data[HEADER.size + count * RECORD.size :]
    if len(trailer) != 2:
        raise ValueError("bad trailer")
    yield struct.unpack("!H", trailer)


def bmp(pixels):
    row = WIDTH * 3
    padding = bytes(-row % 4)
    body = b"".join(bytes(pixels[start : start + row]) + padding for start in range(0, row * HEIGHT, row))
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 24, 0, len(body), 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body


def main():
    *rows, (checksum,) = records("/inputs/records.bin")
    print(len(rows), "records of", RECORD.size)
    print("ids", sum(row[0] for row in rows), "temperatures", min(row[1] for row in rows), max(row[1] for row in rows))
    names = {row[3].rstrip(b"\0").decode("ascii") for row in rows}
    print("names", len(names), min(names), max(names))
    print("checksum", checksum == sum(row[2] for row in rows) % 65536, f"{sum(row[4] for row in rows):.6f}")
    pixels = array.array("B", bytes(WIDTH * HEIGHT * 3))
    for id, temperature, flags, *_ in rows:
        at = id % (WIDTH * HEIGHT) * 3
        pixels[at : at + 3] = array.array("B", [flags & 255, flags >> 8, temperature & 255])
    image = bmp(pixels)
    with open("/output/records.bmp", "wb") as file:
        file.write(image)
    print("image", len(image))


main()
