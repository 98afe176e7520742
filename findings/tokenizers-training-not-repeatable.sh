#!/usr/bin/env bash
# tokenizers: WordPiece trained twice on the same corpus, in one process, gives two vocabularies: letters within words get their ids by chance, and so does BPE with a prefix or suffix.
#
# Versions: tokenizers 0.23.2.
# Behaviour: letters with ## in front (or </w> behind) are added while words are walked over in the order of a hash map, which is another each time; ids decide between pairs that are equally frequent, so that merges
#   may differ as well. There is no seed, and TOKENIZERS_PARALLELISM=false changes nothing. BPE without such marks, and WordLevel, are the same each time.
# Seen, 800 tokens, two trainings: WordPiece 762 tokens in both, 83 of them with the same id, and of 1,500 texts 0 have the same ids and 453 the same pieces (in other runs all tokens in both, and ids apart); BPE with ## alike; with </w> 778
#   with the same id, 17 texts with the same ids. BPE and WordLevel: the same file.
# Why it matters: a pipeline that trains its tokenizer again (another machine, a cache that was emptied) gives a checkpoint ids that mean other tokens, without an error, as sizes are the same; comparisons of tokenizers compare chance
#   besides. The file must be kept with the model.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages tokenizers==0.23.2

"$python" - <<'PY'
import random, sys
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

random.seed(0)
words = ["".join(random.choices("abcdefghij", k=random.randint(2, 7))) for _ in range(3000)]
corpus = [" ".join(random.choices(words, k=20)) for _ in range(1500)]

def trained(model, trainer):
    tokenizer = Tokenizer(model())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(corpus, trainer())
    return tokenizer

bpe = lambda **given: (models.BPE, lambda: trainers.BpeTrainer(vocab_size=800, show_progress=False, **given))
kinds = {
    "BPE": bpe(),
    "WordLevel": (lambda: models.WordLevel(unk_token="?"), lambda: trainers.WordLevelTrainer(vocab_size=800, special_tokens=["?"], show_progress=False)),
    "BPE, ## in front": bpe(continuing_subword_prefix="##"),
    "BPE, </w> behind": bpe(end_of_word_suffix="</w>"),
    "WordPiece": (lambda: models.WordPiece(unk_token="?"), lambda: trainers.WordPieceTrainer(vocab_size=800, special_tokens=["?"], show_progress=False)),
}
holds = True
for name, (model, trainer) in kinds.items():
    first, second = trained(model, trainer), trained(model, trainer)
    one, other = first.get_vocab(), second.get_vocab()
    common = one.keys() & other.keys()
    same_ids = sum(one[token] == other[token] for token in common)
    same_texts = sum(first.encode(text).ids == second.encode(text).ids for text in corpus)
    same_pieces = sum(first.encode(text).tokens == second.encode(text).tokens for text in corpus)
    print(f"{name:16} {len(one)} and {len(other)} tokens, {len(common)} in both, {same_ids} with the same id; of {len(corpus)} texts {same_texts} have the same ids, {same_pieces} the same pieces")
    repeats = first.to_str() == second.to_str()
    holds &= repeats == (name in ("BPE", "WordLevel")) and (repeats or same_texts < len(corpus) / 2)
sys.exit(not holds)
PY
