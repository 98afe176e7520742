#!/usr/bin/env bash
# tokenizers 0.23 reads the text of an added token back in its normalized form: id_to_token and decode give another string.
#
# Versions: tokenizers 0.23.2 (new) against 0.22.2.
# Behaviour: an added token with normalized=True (the default of add_tokens) is searched for in normalized text, in both. Since
#   0.23 id_to_token() and decode() also answer with the normalized spelling, while token_to_id(), get_vocab() and
#   to_str() know the spelling that was added.
# Seen, with a Lowercase normalizer and "World" added as id 3 beside "world" as id 2: id_to_token(3) is "World" in 0.22.2, "world" in
#   0.23.2, where token_to_id("world") is 2: the way there and back ends at another id. decode([3]) and DecodeStream follow.
#   With a Prepend normalizer the same token comes back as "_World".
# Why it matters: added words of fine-tuned models (names, labels, stop words) change in the output when the library is updated;
#   code that compares decoded text with the added spelling no longer finds it, and tables made by id_to_token lose ids.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cat >"$work/try.py" <<'PY'
import json
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

seen = {}
for name, normalizer in {"Lowercase": normalizers.Lowercase(), "Prepend": normalizers.Prepend("_")}.items():
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "hello": 1, "world": 2}, unk_token="?"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens([AddedToken("World", normalized=True)])
    seen[name] = [tokenizer.id_to_token(3), tokenizer.decode([3]), decoders.DecodeStream().step(tokenizer, 3),
                  tokenizer.token_to_id("World"), tokenizer.token_to_id(tokenizer.id_to_token(3)),
                  json.loads(tokenizer.to_str())["added_tokens"][0]["content"]]
print(json.dumps(seen))
PY
for version in 0.22.2 0.23.2; do
  python_packages tokenizers==$version
  "$python" "$work/try.py" >"$work/$version"
  echo "$version: id_to_token(3), decode([3]), a stream's, token_to_id(World), there and back, content saved"
  cat "$work/$version"
done
[[ $(<"$work/0.22.2") == '{"Lowercase": ["World", "World", "World", 3, 3, "World"], "Prepend": ["World", "World", "World", 3, 3, "World"]}' ]]
[[ $(<"$work/0.23.2") == '{"Lowercase": ["world", "world", "world", 3, 2, "World"], "Prepend": ["_World", "_World", "_World", 3, null, "World"]}' ]]
