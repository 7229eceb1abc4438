"""Words that somebody who means harm would choose, or a script that went wrong."""

from __future__ import annotations

import random

EVIL = "\x1b[2J\x1b]0;owned\x07\r\nforged \u202e\x9b31m\x00\x7f"
"""What others may have written into the tables."""

ODD = [
    *["", " ", "\x00", "\x1b[31m\x9b2J\x07", "\udc80", "\ud800", "../../etc/passwd", "/", ".", "-", "--", EVIL],
    *["9" * 400, "-1", "0", "nan", "inf", "-inf", "1e400", "1e300", "\u0663", "\u202e\u2066txt.exe", "x" * 70_000],
    *["eu:people", "arn:aws:dynamodb:us-east-1:1:table/t", "arn:", ":", "http://[", "file:///etc/passwd", "[" * 50_000],
]
RANGES = [(0, 32), (32, 127), (127, 160), (160, 0x300), (0x2000, 0x2070), (0xD800, 0xE000), (0x1F300, 0x1F600)]


def hostile(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(ODD)
    if chance.random() < 0.3:
        return str(chance.choice([chance.randint(-(10**40), 10**40), chance.randint(-9, 99), chance.gauss(0, 1e6)]))
    if chance.random() < 0.4:
        return "".join(chance.choices('a"\\{}[]:,0.-=*?', k=chance.randint(1, 8)))
    return "".join(chr(chance.randrange(*chance.choice(RANGES))) for _ in range(chance.randint(1, 12)))
