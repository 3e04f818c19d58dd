"""Huffman coding of an input text into a file format of its own, and back."""

import heapq
import itertools
import struct
import sys
from collections import Counter
from pathlib import Path


def code_lengths(text):
    tie = itertools.count()
    heap = [(count, next(tie), [symbol]) for symbol, count in sorted(Counter(text).items())]
    lengths = dict.fromkeys(set(text), 0)
    heapq.heapify(heap)
    while len(heap) > 1:
        count, _, symbols = heapq.heappop(heap)
        other_count, _, others = heapq.heappop(heap)
        for symbol in symbols + others:
            lengths[symbol] += 1
        heapq.heappush(heap, (count + other_count, next(tie), symbols + others))
    return lengths


def canonical(lengths):
    codes, code, last = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items()):
        code <<= length - last
        codes[symbol] = f"{code:0{length}b}"
        code, last = code + 1, length
    return codes


def pack(text):
    lengths = code_lengths(text)
    codes = canonical(lengths)
    bits = "".join(codes[symbol] for symbol in text)
    header = struct.pack(">4sHI", b"HUF1", len(lengths), len(bits))
    table = b"".join(struct.pack(">IB", ord(symbol), length) for symbol, length in sorted(lengths.items()))
    padded = bits + "0" * (-len(bits) % 8)
    return header + table + int(padded, 2).to_bytes(len(padded) // 8, "big"), len(bits)


def unpack(data):
    _, symbols, count = struct.unpack_from(">4sHI", data)
    table = dict(struct.iter_unpack(">IB", data[10 : 10 + 5 * symbols]))
    codes = {code: symbol for symbol, code in canonical({chr(s): length for s, length in table.items()}).items()}
    body = data[10 + 5 * symbols :]
    text, word = [], ""
    for bit in f"{int.from_bytes(body, 'big'):0{len(body) * 8}b}"[:count]:
        word += bit
        if word in codes:
            text.append(codes[word])
            word = ""
    return "".join(text)


text = Path(sys.argv[1]).read_text(encoding="utf-8")
packed, bit_count = pack(text)
Path("/output/text.huf").write_bytes(packed)
print("characters", len(text), "bits", bit_count, "same", unpack(packed) == text)
