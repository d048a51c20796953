"""What one look at a picture took for ink, and what its digits explain of it: to find out why.

    looks = ask(find_best(image), judge).looks
    title, words, kinds, boxes = account(looks[0], looks[0])
"""

import numpy as np

from reading.candidates import fainter_ink, short_lines
from reading.posterior import find_terms

PAPER, NOT_COUNTED, FAINT, LEFT_OUT, WORTH_LESS, EXPLAINED = range(6)  # what a pixel may be
MOST_NAMED = 4  # digits: of more, the share of each takes too much room
LONG = 20  # characters: of a longer text the title gives the lines that differ


def account(look, likeliest):
    """Return (title, words, kinds, boxes) of a posterior.Look.

    The title is its text, or of a long one the lines that the likeliest look reads otherwise, and
    P, the share of the weight of all looks; the words are lines, with its score by term; kinds: of
    find_kinds(); boxes: its digits', in 0..1 of the sides of kinds.
    """
    text = look.reading.text.split()
    other = [line for line in text if line not in likeliest.reading.text.split()]
    other = other if other and len(look.reading.text) > LONG else text
    reading, worth = look.reading, ""
    if reading.worth < 0.995:
        worth = f"; worth {reading.worth:.2f}"
    terms = find_terms(reading)
    masses = [(str(digit.digit), digit.mass) for digit in reading.digits]
    total = sum(mass for _, mass in masses)
    if len(masses) > MOST_NAMED:
        masses = [(f"{len(masses)} digits", total)]
    share = 100 * (1 - terms["ink not explained"]) / total
    explained = ", ".join(f"{share * mass:.0f} % by {name}" for name, mass in masses)
    less = "".join(f" \N{MINUS SIGN} {cost:.2f} {name}" for name, cost in terms.items()
                   if cost >= 0.005)
    nats = -np.log([digit.probability for digit in reading.digits]).mean()
    words = (f"ink: {look.hypothesis.name}\nexplained: {explained}\n"
             f"score {reading.score:.2f}{less and ' = 1' + less}{worth}\n"
             f"mean \N{MINUS SIGN}log p of the digits: {nats:.2f} nats")
    likely = f"= {100 * look.share:.0f} %" if look.share >= 0.005 else "< 1 %"
    title = f"{'... ' * (len(other) < len(text))}{' / '.join(other)}: P {likely}"
    return title, words, find_kinds(look), [digit.box for digit in reading.digits]


def find_kinds(look):
    """Return what each pixel is to a look, uint8 (H, W): PAPER .. EXPLAINED.

    WORTH_LESS is what the digits explain, but counts by less than half: see Segments.worth.
    """
    hypothesis, segments = look.hypothesis, look.segments
    kinds = np.where(hypothesis.mask | hypothesis.lines, NOT_COUNTED, PAPER).astype(np.uint8)
    kinds[fainter_ink(hypothesis, segments.height)] = FAINT
    kinds[(segments.label > 0) | short_lines(hypothesis, segments.height)] = LEFT_OUT
    for i in look.chosen:
        kinds[segments.label == i + 1] = EXPLAINED if segments.worth[i] >= 0.5 else WORTH_LESS
    return kinds
