# The models here and what sentencepiece makes of texts with them: python make.py (sentencepiece 0.2.2)
import io, json, os, pathlib
import sentencepiece as spm

here = pathlib.Path(__file__).parent
os.chdir(here)  # models keep the path of their rules
words = "state space models read a text token by token and keep what they need in a state of one size".split()
sentences = [" ".join(words[i % len(words)] for i in range(s, s + 9)) for s in range(0, 160, 3)]
sentences += ["Hello, world! It's 2024: 1234 + 56.", "for (int i = 0; i < n; ++i) {", "naïve café déjà vu", "Ελληνικά και русский"] * 4
texts = [
    "", " ", "  ", "a", " a", "a ", "Hello world", "  Hello   world  ", "state space models", "tokens, tokens: tokens!",
    "x\ty\nz", "\n\n", "naïve café — déjà vu", "漢字かな", "🙂👍🏽", "Ελληνικά", "ﬁne ① Ａ", "1234567", "don't", "e\u0301",
    "a<s>b", "</s>", "<unk>", "<0x41>", "▁", "a▁b", "<sep>", "x<sep>y", "<sep> y", "<ctl>", "==>", "a ==> b", "a==>==>b",
    "the state of the state of the state", "a" * 40, " " * 9, "\u00a0", "\ufeffa", "zzzz qqqq",
]  # fmt: skip
rules = "".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}\n" for a, b in [("ﬁ", "fi"), ("①", "1"), ("Ａ", "a"), ("\t", " "), ("\n", " "), ("\u00a0", " "), ("e\u0301", "é"), ("—", "-"), ("\ufeff", "")])

llama = dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
models = {
    "bpe_llama": dict(llama, vocab_size=420, split_digits=True, allow_whitespace_only_pieces=True),
    "bpe_own": dict(model_type="bpe", vocab_size=150, user_defined_symbols=["<sep>", "==>"], control_symbols=["<ctl>"], rules=True),
    "bpe_gemma": dict(llama, vocab_size=400, add_dummy_prefix=False, user_defined_symbols=["▁▁", "▁▁▁", "<sep>"], pad_id=0, eos_id=1, bos_id=2, unk_id=3),
    "unigram": dict(model_type="unigram", vocab_size=130, user_defined_symbols=["<sep>", "==>"], control_symbols=["<ctl>"], rules=True),
    "unigram_bytes": dict(model_type="unigram", vocab_size=380, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, bos_id=-1),
    "unigram_behind": dict(model_type="unigram", vocab_size=120, treat_whitespace_as_suffix=True, normalization_rule_name="identity"),
}  # fmt: skip
(here / "rules.tsv").write_text(rules, encoding="utf8")
expected = {}
for name, options in models.items():
    if options.pop("rules", False):
        options["normalization_rule_tsv"] = "rules.tsv"
    made = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=made, character_coverage=1.0, hard_vocab_limit=False, num_threads=1, minloglevel=2, **options)
    (here / f"{name}.model").write_bytes(made.getvalue())
    sp = spm.SentencePieceProcessor(model_proto=made.getvalue())
    expected[name] = [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in texts]
(here / "rules.tsv").unlink()
(here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf8")
