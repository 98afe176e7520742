#!/usr/bin/env bash
# SacreBLEUScore of torchmetrics is not sacrebleu's: 0 for an answer without a common run of four words, and with several references another score in another order of them.
#
# Versions: torchmetrics 1.9.0, sacrebleu 2.6.0, torch 2.13.0 (CPU).
# Behaviour: the documentation says that it follows SacreBLEU. sacrebleu smooths a count of zero (1/2, 1/4, ... of a match) unless told otherwise; torchmetrics gives 0 before it comes to smooth=True, which adds one to counts that need none. Of two references that are
#   equally far from the answer in length sacrebleu takes the shorter one for the brevity penalty, torchmetrics the first; so does BLEUScore.
# Seen: "the cat is on the mat now" for "there is a cat on the mat today": sacrebleu 24.1, torchmetrics 0, with smooth=True 0. An answer of 7 words, references of 5 and 9: sacrebleu 84.1 in both orders, torchmetrics
#   84.1 and 63.2. Five pairs with one reference each, as one corpus: 66.5 in both, 68.0 with smooth=True.
# Why it matters: scores of single answers, as rewards and for tables by example, are 0 where others have 10 to 30; and a corpus with several references gets up to a quarter less by the order of the files, with the tool's name that was made so
#   that numbers can be compared.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 torchmetrics==1.9.0 sacrebleu==2.6.0 numpy

"$python" - <<'PY'
import sys
import sacrebleu
from torchmetrics.text import BLEUScore, SacreBLEUScore

def scores(answers, references):
    """references: a list for each answer"""
    theirs = sacrebleu.corpus_bleu(answers, [list(column) for column in zip(*references)]).score
    metrics = {"SacreBLEUScore": SacreBLEUScore(), "smooth=True": SacreBLEUScore(smooth=True), "BLEUScore": BLEUScore()}
    return {"sacrebleu": theirs} | {name: 100 * float(metric(answers, references)) for name, metric in metrics.items()}

def shown(what, found):
    print(f"{what:44}", ", ".join(f"{name} {score:.1f}" for name, score in found.items()))
    return found

short = shown("no common four words", scores(["the cat is on the mat now"], [["there is a cat on the mat today"]]))
answer, five, nine = "the cat sat on the mat today", "the cat sat on mat", "the cat sat on the mat right now today"
first = shown("references of 5 and 9 words for 7", scores([answer], [[five, nine]]))
second = shown("the same, 9 words first", scores([answer], [[nine, five]]))
pairs = [("the dog runs fast in the big house", "the dog runs very fast in the big house"), ("a cat sat on the mat", "the cat sat on the mat"), ("it is not well known in the city", "it is not known in the city"),
         ("the price is 3.5 dollars today", "today the price is 3.5 dollars"), ("we went to the market by bus", "we went to the market on foot")]
corpus = shown("five pairs, one reference each", scores([a for a, _ in pairs], [[r] for _, r in pairs]))
same = lambda found, name: abs(found[name] - found["sacrebleu"]) < 0.01
sys.exit(not (short["SacreBLEUScore"] == 0 and short["sacrebleu"] > 10 and short["smooth=True"] == 0 and corpus["smooth=True"] > corpus["sacrebleu"] + 1 and same(first, "SacreBLEUScore") and first["sacrebleu"] == second["sacrebleu"]
              and second["SacreBLEUScore"] < second["sacrebleu"] - 10 and second["BLEUScore"] < second["sacrebleu"] - 10 and same(corpus, "SacreBLEUScore")))
PY
