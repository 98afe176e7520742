# Tokenizers of every kind that a tokenizer.json can name, and what Hugging Face tokenizers makes of texts and ids with them:
# python make.py (tokenizers 0.23.2; sentencepiece 0.2.2 for the rules of one)
import json, pathlib, random
import sentencepiece.sentencepiece_model_pb2 as sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, models, processors, trainers
from tokenizers import decoders as D, normalizers as N, pre_tokenizers as P

here = pathlib.Path(__file__).parent
draw = random.Random(1)
CORPUS = ["state space models read a text token by token", "Hello world, it's 1234 o'clock. Don't!", "naïve café élan", "日本語 漢字", "Ὧν ῥώμη", "😀 ok", "١٢٣ ²½"] * 3
SPECIAL = [AddedToken(t, special=True) for t in ("<s>", "</s>", "<im_end>")]
ADDED = [
    AddedToken("<plain>", normalized=False),
    AddedToken("Norm", normalized=True),
    AddedToken("single", single_word=True, normalized=False),
    AddedToken("<sw>", special=True, single_word=True),
    AddedToken("<l>", special=True, lstrip=True),
    AddedToken("<r>", special=True, rstrip=True),
    AddedToken("<lr>", special=True, lstrip=True, rstrip=True),
    AddedToken("lsn", lstrip=True, normalized=True),
    AddedToken("rsn", rstrip=True, single_word=True, normalized=True),
]


def bpe(pre, norm=None, dec=None, post=None, bf=False, unk=None, eow=None, csp=None, train_pre=None, **more):
    given = {"unk_token": unk, "end_of_word_suffix": eow, "continuing_subword_prefix": csp}
    t = Tokenizer(models.BPE(byte_fallback=bf, **{k: v for k, v in given.items() if v}, **more))
    if norm:
        t.normalizer = norm
    t.pre_tokenizer = pre or train_pre
    special = ([unk] if unk else []) + ([f"<0x{b:02X}>" for b in range(256)] if bf else [])
    affixes = {k: v for k, v in given.items() if v and k != "unk_token"}
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=len(special) + 150, special_tokens=special, show_progress=False, **affixes))
    j = json.loads(t.to_str())
    j["added_tokens"] = [x for x in j["added_tokens"] if x["content"] == unk]  # tokens of bytes are plain ones
    if not pre:
        j["pre_tokenizer"] = None
    return finish(Tokenizer.from_str(json.dumps(j)), dec, post)


def unigram(pre, norm=None, dec=None, post=None, bf=False):
    t = Tokenizer(models.Unigram())
    if norm:
        t.normalizer = norm
    t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False))
    if bf:
        j = json.loads(t.to_str())
        j["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
        j["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(j))
    return finish(t, dec, post)


def words(model, trainer, norm, pre, dec, post=None):
    t = Tokenizer(model(unk_token="[UNK]"))
    if norm:
        t.normalizer = norm
    t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False))
    return finish(t, dec, post)


def wordpiece(norm, pre, dec, post=None):
    return words(models.WordPiece, trainers.WordPieceTrainer, norm, pre, dec, post)


def wordlevel(pre, dec=None, norm=None):
    return words(models.WordLevel, trainers.WordLevelTrainer, norm, pre, dec)


def finish(t, dec, post):
    t.add_special_tokens(SPECIAL)
    t.add_tokens([a for a in ADDED if not a.special])
    t.add_special_tokens([a for a in ADDED if a.special])
    if dec:
        t.decoder = dec
    s, e = (("<s>", t.token_to_id("<s>")), ("</s>", t.token_to_id("</s>")))
    bos = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[s])
    made = {
        "bos": bos,
        "both": processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[s, e]),
        "roberta": processors.RobertaProcessing(e, s),
        "bert": processors.BertProcessing(e, s),
        "bl": processors.ByteLevel(trim_offsets=True),
        "seq": processors.Sequence([processors.ByteLevel(trim_offsets=False), bos]),
    }
    if post:
        t.post_processor = made[post]
    return t


def charsmap():
    m = sentencepiece.ModelProto()
    m.ParseFromString((here / "../sentencepiece/unigram.model").read_bytes())
    return m.normalizer_spec.precompiled_charsmap


GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
bl = lambda aps=False, rx=True: P.ByteLevel(add_prefix_space=aps, use_regex=rx)
split = lambda rx, b='isolated', inv=False: P.Split(Regex(rx), b, invert=inv)
spd = lambda *a: D.Sequence([D.Replace('▁', ' '), D.ByteFallback(), D.Fuse(), *a])
spn = N.Sequence([N.Prepend('▁'), N.Replace(' ', '▁')])
M = lambda scheme, split=True: P.Metaspace('▁', scheme, split)
MD = lambda scheme, split=True: D.Metaspace('▁', scheme, split)
seq = P.Sequence
KINDS = {
    'gpt2': lambda: bpe(bl(), dec=D.ByteLevel(), post='bl'),
    'gpt2_prefix': lambda: bpe(bl(True), dec=D.ByteLevel(), post='roberta'),
    'llama3': lambda: bpe(seq([split(GPT4), bl(rx=False)]), dec=D.ByteLevel(), post='seq', ignore_merges=True),
    'qwen_nfc': lambda: bpe(seq([split(GPT4.replace('{1,3}', '')), bl(rx=False)]), norm=N.NFC(), dec=D.ByteLevel(), post='bl'),
    'deepseek': lambda: bpe(seq([split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"), split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), bl(rx=False)]), dec=D.ByteLevel(), post='bos'),
    'digits_runs': lambda: bpe(seq([P.Digits(individual_digits=False), bl()]), dec=D.ByteLevel()),
    'falcon': lambda: bpe(seq([P.Punctuation(behavior='contiguous'), bl(), P.Digits(individual_digits=False), split('[0-9][0-9][0-9]')]), dec=D.ByteLevel()),
    'punct_isolated': lambda: bpe(seq([P.Punctuation(), bl()]), dec=D.ByteLevel()),
    'punct_removed': lambda: bpe(seq([P.Punctuation(behavior='removed'), bl()]), dec=D.ByteLevel()),
    'punct_prev': lambda: bpe(seq([P.Punctuation(behavior='merged_with_previous'), bl()]), dec=D.ByteLevel()),
    'punct_next': lambda: bpe(seq([P.Punctuation(behavior='merged_with_next'), bl()]), dec=D.ByteLevel()),
    'split_prev': lambda: bpe(seq([P.Split(' ', 'merged_with_previous'), bl(rx=False)]), dec=D.ByteLevel()),
    'split_next': lambda: bpe(seq([P.Split(' ', 'merged_with_next'), bl(rx=False)]), dec=D.ByteLevel()),
    'split_contig': lambda: bpe(seq([split(r'\s', 'contiguous'), bl(rx=False)]), dec=D.ByteLevel()),
    'split_removed': lambda: bpe(seq([split(r'\s+', 'removed'), bl(rx=False)]), dec=D.ByteLevel()),
    'split_inv_removed': lambda: bpe(seq([split(GPT4, 'removed', True), bl(rx=False)]), dec=D.ByteLevel()),
    'split_inv_isolated': lambda: bpe(seq([split(r'\p{L}+', 'isolated', True), bl(rx=False)]), dec=D.ByteLevel()),
    'gpt4o': lambda: bpe(seq([split(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"), bl(rx=False)]), dec=D.ByteLevel()),
    'llama2': lambda: bpe(None, train_pre=M('always'), norm=spn, dec=spd(D.Strip(' ', 1, 0)), bf=True, unk='<unk>', post='bos', fuse_unk=True),
    'llama2_nobytes': lambda: bpe(None, train_pre=M('always'), norm=spn, dec=spd(D.Strip(' ', 1, 0)), unk='<unk>', fuse_unk=True),
    'llama2_nobytes_nofuse': lambda: bpe(None, train_pre=M('always'), norm=spn, dec=spd(D.Strip(' ', 1, 0)), unk='<unk>', fuse_unk=False),
    'no_unk': lambda: bpe(None, train_pre=M('always'), norm=spn, dec=spd(D.Strip(' ', 1, 0))),
    'llama2_legacy_false': lambda: bpe(M('first', False), dec=spd(D.Strip(' ', 1, 0)), bf=True, unk='<unk>', post='bos', fuse_unk=True),
    'llama2_always_nosplit': lambda: bpe(M('always', False), dec=spd(D.Strip(' ', 1, 0)), bf=True, unk='<unk>', fuse_unk=True),
    'gemma': lambda: bpe(P.Split(' ', 'merged_with_previous'), norm=N.Replace(' ', '▁'), dec=spd(), bf=True, unk='<unk>', post='bos', fuse_unk=True),
    'metaspace_bpe_split': lambda: bpe(M('always', True), dec=MD('always'), unk='<unk>'),
    'metaspace_bpe_first': lambda: bpe(M('first', True), dec=MD('first'), unk='<unk>'),
    'metaspace_bpe_never': lambda: bpe(M('never', True), dec=MD('never'), unk='<unk>'),
    't5': lambda: unigram(seq([P.WhitespaceSplit(), M('always')]), dec=MD('always'), post='both'),
    'unigram_always': lambda: unigram(M('always'), dec=MD('always')),
    'unigram_never': lambda: unigram(M('never'), dec=MD('never')),
    'unigram_nosplit': lambda: unigram(M('always', False), dec=MD('always', False)),
    'unigram_bytes': lambda: unigram(M('always'), dec=spd(D.Strip(' ', 1, 0)), bf=True),
    'precompiled': lambda: unigram(M('always'), dec=MD('always'), norm=N.Sequence([N.Precompiled(charsmap()), N.Strip(left=False, right=True), N.Replace(Regex(' {2,}'), '▁')])),
    'bert': lambda: wordpiece(N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece(), 'bert'),
    'bert_cased': lambda: wordpiece(N.BertNormalizer(lowercase=False), P.BertPreTokenizer(), D.WordPiece(cleanup=False), 'bert'),
    'wordlevel': lambda: wordlevel(P.Whitespace()),
    'wordlevel_ws': lambda: wordlevel(P.WhitespaceSplit(), norm=N.Sequence([N.Lowercase(), N.StripAccents()])),
    'wordlevel_delim': lambda: wordlevel(P.CharDelimiterSplit(' ')),
    'wordlevel_fixed': lambda: wordlevel(P.FixedLength(3)),
    'clip': lambda: bpe(seq([split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", 'removed', True), bl(rx=False)]), norm=N.Sequence([N.NFC(), N.Replace(Regex(r'\s+'), ' '), N.Lowercase()]), dec=D.ByteLevel(), eow='</w>', unk='<unk>'),
    'gpt1': lambda: bpe(P.BertPreTokenizer(), norm=N.BertNormalizer(), dec=D.BPEDecoder(), eow='</w>', unk='<unk>'),
    'bpe_prefix': lambda: bpe(P.Whitespace(), dec=D.WordPiece(prefix='##'), csp='##', unk='<unk>'),
    'strip_norm': lambda: bpe(bl(), norm=N.Sequence([N.Strip(), N.NFKD(), N.StripAccents()]), dec=D.ByteLevel()),
    'nfd': lambda: bpe(bl(), norm=N.NFD(), dec=D.ByteLevel()),
    'nfkc_prepend': lambda: bpe(M('always', False), norm=N.Sequence([N.NFKC(), N.Lowercase()]), dec=MD('always'), unk='<unk>'),
    'nmt': lambda: bpe(bl(), norm=N.Nmt(), dec=D.ByteLevel()),
    'bytelevel_norm': lambda: bpe(None, train_pre=P.Whitespace(), norm=N.ByteLevel(), dec=D.ByteLevel()),
    'ctc': lambda: wordlevel(split('', 'isolated'), dec=D.CTC(pad_token='<s>', word_delimiter_token='|', cleanup=True)),
    'replace_dec': lambda: bpe(M('first', False), dec=D.Sequence([D.Replace('▁', ' '), D.Fuse()]), unk='<unk>'),
    'strip_both': lambda: bpe(M('first', False), dec=D.Sequence([D.Replace('▁', ' '), D.ByteFallback(), D.Strip(' ', 2, 0), D.Fuse(), D.Strip(' ', 1, 0)]), bf=True, unk='<unk>'),
}
PIECES = ['hello', 'world', ' ', '  ', '   ', '\n', '\n\n', '\t', '\r\n', 'the ', 'The', "'s", "'S", "'re", "n't", ' .', '.', ',', '!?', '...', '1', '12345', '٣٤', '²', '½', 'é', 'e\u0301', 'Å', '日本', '語', '😀', '👨‍👩‍👧',
 '<s>', '</s>', '<im_end>', '<plain>', 'Norm', 'norm', 'single', 'singles', 'xsingle', '<sw>', '<l>', '<r>', '<lr>', 'lsn', 'rsn', 'SpeciaL', 'special', 'Ω\u0301', 'ΑΣ', '▁', '▁▁', '_', '\u00a0', '\u200b', '\u3000', '\ufeff', '\x00', '\x85', '\x1f', '\ufffd', '<0x41>', 'a', 'b', 'ǅ', 'ß', 'İ', 'ﬁ', 'Ω', 'ῥ', 'ह', 'हि', 'ع', '$', '€', '±', '-', '—', '「', '\U0001F1E9', 'state', 'space', ' model', 'const x = 1;', '##', 'ing', '</w>', '|', '[UNK]', '<unk>', '\u2581', '\u0345', 'ⅷ', '①', '\u1c80']


def text():
    return "".join(draw.choice(PIECES) for _ in range(draw.randrange(0, 9)))


def some_ids(t, size, bytes_):
    ids = []
    for _ in range(draw.randrange(1, 12)):
        r = draw.random()
        if r < 0.1:
            ids.append(draw.randrange(size - 12, size))
        elif r < 0.15:
            ids.append(size + draw.randrange(0, 50))  # no token's
        elif bytes_ and r < 0.5:
            ids += [bytes_[b] for b in draw.choice(["😀", "é", "日", "a"]).encode()[: draw.randrange(1, 5)]]
        else:
            ids.append(draw.randrange(size))
    return ids


cases = {}
for name, make in KINDS.items():
    t = make()
    size = t.get_vocab_size()
    bytes_ = [t.token_to_id(f"<0x{b:02X}>") for b in range(256)]
    texts = [text() for _ in range(28)]
    lists = [some_ids(t, size, None if None in bytes_ else bytes_) for _ in range(18)]
    cases[name] = {
        "definition": json.loads(t.to_str()),
        "encode": [[x, t.encode(x).ids, t.encode(x, add_special_tokens=False).ids] for x in texts],
        "decode": [[x, t.decode(x), t.decode(x, skip_special_tokens=False)] for x in lists],
    }
lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in cases.items())
(here / "expected.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf8")
