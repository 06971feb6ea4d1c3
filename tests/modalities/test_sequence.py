"""Text and DNA encoders: windows, pieces, special tokens, and how DNA is spelt for each architecture."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
import vlms
from encoders import KMERS, save_dnabert, save_dnabert2, save_llama, save_nucleotide_transformer
from fedgram import modalities
from fedgram.errors import DataError
from fedgram.modalities.genomics import spelling_of
from fedgram.modalities.hf import load_language_encoder
from fedgram.modalities.mosaic_bert import alibi_slopes
from fedgram.modalities.sequence import MAX_TOKENS, SequenceEncoder, spans
from fedgram.records import Sample
from hypothesis import given
from hypothesis import strategies as st
from site_data import save_bert
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BartConfig,
    BartModel,
    T5Config,
    T5Model,
)

WORDS = [f"w{i}" for i in range(200)]
DNA = {"dnabert": save_dnabert, "nt": save_nucleotide_transformer, "dnabert2": save_dnabert2}


def text(*numbers: int) -> str:
    return " ".join(WORDS[i] for i in numbers)


def bases(length: int, seed: int = 0) -> str:
    return "".join("ACGT"[i] for i in torch.randint(4, (length,), generator=torch.Generator().manual_seed(seed)))


def samples(*contents: str) -> list[Sample]:
    return [Sample(id=str(i), concept="a", group=str(i), content=content) for i, content in enumerate(contents)]


@given(length=st.integers(1, 200), window=st.integers(1, 50))
def test_windows_cover_everything_and_overlap(length: int, window: int):
    found = list(spans(7, length, window))
    assert {i for _, start, stop in found for i in range(start, stop)} == set(range(length))
    assert all(content == 7 and stop - start == min(window, length) for content, start, stop in found)
    if window > 3:
        assert all(b < a_stop for (_, _, a_stop), (_, b, _) in pairwise(found))


def test_a_language_model_without_padding_token(tmp_path: Path):
    """The base model's last hidden states; <s> is there for it to see and is not a token of the result."""
    name = save_llama(tmp_path / "llama", WORDS)
    encoder = SequenceEncoder(name, [text(0, 1, 2), text(3)])
    tokens = encoder([text(0, 1, 2), text(3)])
    assert tokens.values.shape == (2, 3, 16)
    assert tokens.mask.tolist() == [[True] * 3, [True, False, False]]
    assert not tokens.values[1, 1:].any()
    whole = AutoModelForCausalLM.from_pretrained(name).eval()
    ids = AutoTokenizer.from_pretrained(name)([text(0, 1, 2)], return_tensors="pt")["input_ids"]
    assert ids[0, 0] == 1
    torch.testing.assert_close(tokens.values[0], whole.model(input_ids=ids).last_hidden_state[0, 1:])


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_of_an_encoder_decoder_it_is_the_encoder(kind: str, tmp_path: Path):
    """The decoder is fed with what the model is to write: T5 refuses to go without, BART makes it of the text."""
    name, sizes = save_llama(tmp_path / kind, WORDS), {"vocab_size": len(WORDS) + 3, "d_model": 16}
    model = {
        "t5": lambda: T5Model(T5Config(d_kv=8, d_ff=24, num_layers=2, num_heads=2, **sizes)),
        "bart": lambda: BartModel(
            BartConfig(encoder_layers=2, decoder_layers=2, max_position_embeddings=64, **sizes)
        ),
    }[kind]().eval()
    model.save_pretrained(name)
    encoder = SequenceEncoder(name, [text(0, 1, 2)])
    assert encoder.width == 16
    expected = model.get_encoder()(input_ids=torch.tensor([[1, 3, 4, 5]])).last_hidden_state[0, 1:]
    torch.testing.assert_close(encoder([text(0, 1, 2)]).values[0], expected)


def test_an_encoder_with_special_tokens_at_both_ends(tmp_path: Path):
    name = save_bert(tmp_path / "bert", WORDS)
    tokens = SequenceEncoder(name, [text(1, 2, 3, 4)])([text(5, 6)])
    ids = AutoTokenizer.from_pretrained(name)([text(5, 6)], return_tensors="pt")
    expected = AutoModel.from_pretrained(name).eval()(**ids).last_hidden_state[0, 1:-1]
    torch.testing.assert_close(tokens.values[0, :2], expected)
    assert tokens.mask.tolist() == [[True, True, False, False]]


def test_the_length_is_that_of_the_training_data_up_to_a_limit(tmp_path: Path):
    name = save_llama(tmp_path / "llama", WORDS)
    for words, length in ((3, 3), (64, 64), (150, MAX_TOKENS)):
        encoder = SequenceEncoder(name, [text(*range(words)), text(0)])
        assert encoder([text(0)]).values.shape == (1, length, 16)


def test_a_long_text_is_averaged_and_not_cut(tmp_path: Path):
    """128 tokens in 64 pieces: the mean of each two; the last word counts as much as the first."""
    name = save_llama(tmp_path / "llama", WORDS)
    encoder = SequenceEncoder(name, [text(*range(128))])
    ids = AutoTokenizer.from_pretrained(name)([text(*range(128))], return_tensors="pt")["input_ids"]
    hidden = AutoModel.from_pretrained(name).eval()(input_ids=ids).last_hidden_state[0, 1:]
    values = encoder([text(*range(128))]).values[0]
    torch.testing.assert_close(values, hidden.view(64, 2, 16).mean(1), rtol=1e-4, atol=1e-5)
    changed = encoder([text(*range(127), 5)]).values[0]
    assert torch.equal(changed[:-1], values[:-1])
    assert not torch.equal(changed[-1], values[-1])


def test_what_is_longer_than_the_encoder_goes_in_windows(tmp_path: Path):
    """Where two windows meet, a token's hidden states are averaged."""
    name = save_llama(tmp_path / "llama", WORDS, max_position_embeddings=11)  # 8 words besides <s>
    encoder, model = SequenceEncoder(name, [text(*range(10))]), AutoModel.from_pretrained(name).eval()
    ids = AutoTokenizer.from_pretrained(name)(text(*range(10)), add_special_tokens=False)["input_ids"]
    first, second = (
        model(input_ids=torch.tensor([[1, *part]])).last_hidden_state[0, 1:] for part in (ids[:8], ids[2:])
    )
    expected = torch.cat([first[:2], (first[2:] + second[:6]) / 2, second[6:]])
    torch.testing.assert_close(encoder([text(*range(10))]).values[0], expected, rtol=1e-4, atol=1e-5)


def test_batches_of_windows_do_not_mix_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = save_llama(tmp_path / "llama", WORDS, max_position_embeddings=11)
    contents = [text(*range(n, n + length)) for n, length in ((0, 30), (40, 1), (50, 9), (70, 100))]
    encoder = SequenceEncoder(name, contents)
    together = encoder(contents)
    monkeypatch.setattr("fedgram.modalities.sequence._BATCH", 16)
    for i, content in enumerate(contents):
        alone = encoder([content])
        torch.testing.assert_close(alone.values[0], together.values[i], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone.mask[0], together.mask[i])


def test_identity_is_of_weights_vocabulary_and_length(tmp_path: Path):
    names = [save_llama(tmp_path / str(i), words) for i, words in enumerate((WORDS, WORDS, WORDS[::-1]))]
    one, again, other = (SequenceEncoder(name, [text(0, 1)]).identity for name in names)
    assert one == again != other
    assert SequenceEncoder(names[0], [text(0, 1, 2)]).identity != one


def test_the_language_tower_of_a_vision_language_model_is_an_encoder(tmp_path: Path):
    folder = vlms.save("smolvlm", tmp_path)
    tower = load_language_encoder(folder)
    ids = torch.tensor([[4, 5, 6]])
    expected = AutoModel.from_pretrained(folder).eval().text_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(tower(input_ids=ids).last_hidden_state, expected)


@pytest.mark.parametrize("name", DNA)
def test_dna_of_any_length(name: str, tmp_path: Path):
    sequences = [bases(7), bases(300, 1), bases(3000, 2)]
    encoder = modalities.load("genomics").tokenizer(DNA[name](tmp_path / name), samples(*sequences))
    tokens = encoder(sequences)
    assert tokens.values.shape == (3, MAX_TOKENS, 16)
    assert torch.isfinite(tokens.values).all()
    assert tokens.mask[2].all()
    changed = encoder([sequences[2][:-1] + ("A" if sequences[2][-1] != "A" else "C")])
    assert not torch.equal(changed.values[0, -1], tokens.values[2, -1])
    assert torch.equal(changed.values[0, 0], tokens.values[2, 0])


def test_dnabert_reads_overlapping_kmers_and_others_the_plain_sequence():
    assert spelling_of(frozenset(["[CLS]", *KMERS]))("ACGTACGT") == "ACGTAC CGTACG GTACGT"
    assert spelling_of(frozenset(["[CLS]", *KMERS]))("ACG") == "ACG"
    threes = frozenset("".join(letters) for letters in product("ACGT", repeat=3))
    assert spelling_of(threes)("ACGTA") == "ACG CGT GTA"
    for plain in (frozenset([*KMERS, *"ACGTN"]), frozenset(["ACGT", "TTA", "A"]), frozenset(KMERS[1:])):
        assert spelling_of(plain)("ACGTACGT") == "ACGTACGT"


def test_the_tokens_of_each_dna_encoder(tmp_path: Path):
    """DNABERT: a word at each base but the last five; Nucleotide Transformer: a word for six bases, then bases."""
    sequence = bases(20)
    fitted = modalities.load("genomics").tokenizer
    counts = {name: fitted(save(tmp_path / name), samples(sequence))([sequence]) for name, save in DNA.items()}
    assert counts["dnabert"].mask.sum() == 15
    assert counts["nt"].mask.sum() == 3 + 2
    assert 5 <= counts["dnabert2"].mask.sum() < 20


def test_a_tokenizer_that_does_not_know_the_letters_is_refused(tmp_path: Path):
    name = save_dnabert(tmp_path / "dnabert", lower=True)
    with pytest.raises(DataError, match=r"(?s)25 of 25 tokens .* unknown.*do_lower_case"):
        modalities.load("genomics").tokenizer(name, samples(bases(30)))


def test_a_content_without_a_token(tmp_path: Path):
    encoder = SequenceEncoder(save_bert(tmp_path / "bert", WORDS), [text(0, 1)])
    with pytest.raises(DataError, match="content 2 of 2 has no token"):
        encoder([text(0), "\u200b"])


def test_alibi_slopes_by_hand():
    assert alibi_slopes(4) == [2**-2, 2**-4, 2**-6, 2**-8]
    assert alibi_slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]


def test_mosaic_bert_against_the_slow_way(tmp_path: Path):
    """One head and one position at a time, from the weights by their names in the checkpoint."""
    model = load_language_encoder(save_dnabert2(tmp_path / "dnabert2"))
    w = model.state_dict()
    ids, mask = torch.tensor([[5, 6, 7, 8, 0]]), torch.tensor([[1, 1, 1, 1, 0]])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (16,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    h = w["embeddings.word_embeddings.weight"][ids[0, :4]] + w["embeddings.token_type_embeddings.weight"][0]
    h = norm(h, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}" for i in range(2)):
        q, k, v = (h @ w[f"{layer}.attention.self.Wqkv.weight"].T + w[f"{layer}.attention.self.Wqkv.bias"]).split(
            16, 1
        )
        mixed = torch.zeros_like(h)
        for head, slope in enumerate((2**-4, 2**-8)):
            part = slice(8 * head, 8 * head + 8)
            for i in range(4):
                scores = torch.stack([q[i, part] @ k[j, part] / 8**0.5 - slope * abs(i - j) for j in range(4)])
                mixed[i, part] = scores.softmax(0) @ v[:, part]
        out = f"{layer}.attention.output"
        h = norm(h + mixed @ w[f"{out}.dense.weight"].T + w[f"{out}.dense.bias"], f"{out}.LayerNorm")
        gate, plain = (h @ w[f"{layer}.mlp.gated_layers.weight"].T).split(24, 1)
        inner = torch.nn.functional.gelu(gate) * plain
        h = norm(h + inner @ w[f"{layer}.mlp.wo.weight"].T + w[f"{layer}.mlp.wo.bias"], f"{layer}.mlp.layernorm")
    got = model(input_ids=ids, attention_mask=mask).last_hidden_state[0, :4]
    torch.testing.assert_close(got, h, rtol=1e-4, atol=1e-5)
