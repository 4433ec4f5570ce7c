"""Draws the manual's pictures of networks: docs/pictures/*.txt to SVG beside them.

    pictures.py FILE.txt…      writes FILE.svg for each
    pictures.py --check FILE…  writes nothing; ends with 1 if an SVG is not what its text says

A line of the text is one of these; ` / ` begins a new line within one:

    title WORDS                 the first one: what the picture shows
    box NAME COLUMN WORDS       a host; columns are numbered from 0
    request FROM TO [WORDS]     an arrow, with what the packet has there; between neighbours above, else beneath all boxes
    reply FROM TO [WORDS]       the same, dashed, beneath the request
    note WORDS                  a sentence beneath
"""
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT, GAP, MARGIN, TOP = 148, 72, 206, 12, 40
COLOURS = {"request": "#1b5fa8", "reply": "#22754a"}


class Wrong(Exception):
    pass


def parse(text):
    title, boxes, arrows, notes = "", {}, [], []
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.strip().partition(" ")
        words = rest.split(None, 2)
        if kind == "title":
            title = rest
        elif kind == "box" and len(words) == 3 and words[1].isdigit():
            boxes[words[0]] = (int(words[1]), words[2].split(" / "))
        elif kind in COLOURS and len(words) >= 2 and boxes.keys() >= set(words[:2]):
            arrows.append((kind, *words[:2], words[2].split(" / ") if len(words) > 2 else []))
        elif kind == "note":
            notes.append(rest)
        elif line.strip():
            raise Wrong(f"line {number}: {line}")
    return title, boxes, arrows, notes


def text_at(x, y, lines, attributes):
    """Lines from `y` on downwards."""
    return [f'<text x="{x:g}" y="{y + 15 * n:g}" {attributes}>{escape(line)}</text>' for n, line in enumerate(lines)]


def arrow(kind, path, label, x, y):
    dash = ' stroke-dasharray="7 4"' if kind == "reply" else ""
    colour = COLOURS[kind]
    drawn = f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash} marker-end="url(#{kind})"/>'
    return [drawn, *text_at(x, y, label, f'text-anchor="middle" font-size="11" fill="{colour}"')]


def draw(text):
    title, boxes, arrows, notes = parse(text)
    left = {name: MARGIN + column * (WIDTH + GAP) for name, (column, _) in boxes.items()}
    middle = TOP + HEIGHT / 2
    bottom = TOP + HEIGHT
    out = []
    for name, (_, lines) in boxes.items():
        out.append(
            f'<rect x="{left[name]}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef1f5" stroke="#4a5563" stroke-width="1.5"/>'
        )
        x, first = left[name] + WIDTH / 2, middle + 4 - 7.5 * (len(lines) - 1)
        out += text_at(x, first, lines[:1], 'text-anchor="middle" font-size="13" font-weight="bold" fill="#111827"')
        out += text_at(x, first + 15, lines[1:], 'text-anchor="middle" font-size="11" fill="#111827"')
    deep = bottom
    for kind, begin, end, label in arrows:
        forward = left[begin] < left[end]
        if abs(boxes[begin][0] - boxes[end][0]) == 1:
            above = kind == "request"
            y = middle + (-9 if above else 9)
            ends = (left[begin] + WIDTH, left[end] - 3) if forward else (left[begin], left[end] + WIDTH + 3)
            label_y = y - 7 - 15 * (len(label) - 1) if above else y + 17
            out += arrow(kind, f"M{ends[0]:g} {y:g}H{ends[1]:g}", label, sum(ends) / 2, label_y)
        else:
            deep = bottom + 34
            ends = left[begin] + WIDTH / 2, left[end] + WIDTH / 2
            path = f"M{ends[0]:g} {bottom}V{deep}H{ends[1]:g}V{bottom + 3}"
            out += arrow(kind, path, label, sum(ends) / 2, deep + 17)
            deep += 20 + 15 * (len(label) - 1)
    width = max(left.values()) + WIDTH + MARGIN
    out += text_at(MARGIN, deep + 28, notes, 'font-size="12" fill="#374151"')
    height = deep + 34 + 15 * max(len(notes) - 1, 0)
    heads = [
        f'<marker id="{kind}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for kind, colour in COLOURS.items()
    ]
    said = " ".join(notes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="ui-monospace, Menlo, Consolas, monospace">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(said)}</desc>",
            f"<defs>{''.join(heads)}</defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *out,
            "</svg>",
            "",
        ]
    )


def main(arguments):
    check = arguments[:1] == ["--check"]
    status = 0
    for name in arguments[check:]:
        source, drawn = Path(name), Path(name).with_suffix(".svg")
        try:
            svg = draw(source.read_text())
        except Wrong as why:
            print(f"error: {name}: {why}", file=sys.stderr)
            status = 1
            continue
        if not check:
            drawn.write_text(svg)
        elif not drawn.exists() or drawn.read_text() != svg:
            print(f"error: {drawn} is not what {name} says: scripts/manual --pictures", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
