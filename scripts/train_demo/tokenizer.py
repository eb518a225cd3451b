"""Builds the two CLIP tokenizers of the demo model.

A byte-level BPE like CLIP's own: ids 0..255 are the bytes, 256..511 the bytes that end a word, then one
id per merge, then <|startoftext|> and <|endoftext|>. Merges are learnt from the world's words until each
is a single token; any other text still tokenises by its bytes. As in SDXL, `tokenizer` pads with
<|endoftext|> and `tokenizer_2` with "!", id 0. The end token's id is far from 2, the value for which
transformers' CLIP falls back to an old pooling rule.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import world

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
WORD_END = "</w>"
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in CLIP's order ("!" is first)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def learn_merges(words):
    """Byte-pair merges, most frequent pair first (ties by text), until every word is one symbol."""
    pieces = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    merges = []
    while True:
        pairs = Counter(pair for parts in pieces.values() for pair in zip(parts, parts[1:]))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            pieces[word] = _merge(parts, best)


def _merge(parts, pair):
    merged, index = [], 0
    while index < len(parts):
        if tuple(parts[index : index + 2]) == pair:
            merged.append(parts[index] + parts[index + 1])
            index += 2
        else:
            merged.append(parts[index])
            index += 1
    return merged


def vocabulary():
    """(token to id, merges)."""
    alphabet = byte_alphabet()
    merges = learn_merges(sorted(set(world.all_words())))
    tokens = alphabet + [letter + WORD_END for letter in alphabet] + [a + b for a, b in merges] + [BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}, merges


def vocabulary_size():
    return len(vocabulary()[0])


def special_ids():
    """(bos id, eos id): the last two of the vocabulary."""
    size = vocabulary_size()
    return size - 2, size - 1


def fast_tokenizer(pad_token=EOS):
    """The `tokenizers` pipeline, as transformers converts CLIP's own.

    transformers treats the padding token as special wherever it stands, also "!" within a text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids, merges = vocabulary()
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix=WORD_END,
            fuse_unk=False,
            unk_token=EOS,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, ids[BOS]), (EOS, ids[EOS])]
    )
    tokenizer.add_special_tokens(list(dict.fromkeys([BOS, EOS, pad_token])))
    return tokenizer


def encode(captions, pad_id):
    """Token ids [N, 77] as a list of lists, padded with `pad_id`."""
    tokenizer = fast_tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding(length=MAX_LENGTH, pad_id=pad_id, pad_token=BOS)
    return [encoding.ids for encoding in tokenizer.encode_batch(captions)]


def write(folder, pad_token):
    """Writes vocab.json, merges.txt, tokenizer.json and the two config files of one tokenizer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids, merges = vocabulary()
    fast_tokenizer(pad_token).save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": pad_token, "unk_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": MAX_LENGTH,
        "tokenizer_class": "CLIPTokenizer",
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_both(model_dir):
    write(Path(model_dir) / "tokenizer", EOS)
    write(Path(model_dir) / "tokenizer_2", "!")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="model folder")
    write_both(parser.parse_args().out)
