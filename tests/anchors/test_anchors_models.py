"""Synthetic anchors from pretrained models, on tiny random ones of the same kind made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fedgram import modalities
from fedgram.anchors import AnchorSet
from fedgram.anchors.build import build
from fedgram.anchors.synthesis import fill
from fedgram.anchors.synthesis.pretrained import diffusion_pipeline, language_model, whole_sentences
from fedgram.anchors.synthesis.prompts import Prompts
from fedgram.errors import AnchorError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PROMPTS = Prompts(("a {concept} with fur",), {})
WORDS = ["<s>", "</s>", "<unk>", "a", "cat", "dog", "with", "fur", "and", "runs", "sleeps", "the", "house", "."]


@pytest.fixture(scope="module")
def anchors(tmp_path_factory: pytest.TempPathFactory) -> AnchorSet:
    """DNA of two concepts: texts and images are missing."""
    folder = tmp_path_factory.mktemp("models")
    for number, concept in enumerate(("cat", "dog")):
        (folder / "sources/genomics" / concept).mkdir(parents=True)
        for i in range(2):
            (folder / "sources/genomics" / concept / f"{i}.fasta").write_text(f">x\n{'ACGT'[number] * (9 + i)}\n")
    return build(folder / "sources", folder / "set", name="tiny", terms={"licence": "CC0-1.0", "source": "test"})


def word_tokenizer(**options: object) -> PreTrainedTokenizerFast:
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **options
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "tiny-llama"
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), bos_token_id=0, eos_token_id=1, **shape)).save_pretrained(
        folder
    )
    word_tokenizer().save_pretrained(folder)
    return folder


def test_texts_of_a_language_model(anchors, llama, tmp_path):
    sets = [
        fill(anchors, tmp_path / name, language_model(str(llama), PROMPTS), licence="CC0-1.0", seed=seed)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    texts = [found.contents(modalities.load("text")) for found in sets]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 4
    made = sets[0].slots[0].files["text"].made
    assert made is not None
    assert (made["model"], made["seed"], made["prompts"]) == ("tiny-llama", 1, ["a {concept} with fur"])
    assert len(made["weights"]) == 64
    assert str(llama) not in (tmp_path / "one/manifest.json").read_text()


def test_the_prompt_of_the_concept_is_what_the_model_sees(llama, monkeypatch):
    seen = []
    original = PreTrainedTokenizerFast.__call__
    monkeypatch.setattr(
        PreTrainedTokenizerFast,
        "__call__",
        lambda self, text, **o: (seen.append(text), original(self, text, **o))[1],
    )
    language_model(str(llama), PROMPTS).draw("dog", [1])
    word_tokenizer(chat_template="[{{ messages[0]['content'] }}]").save_pretrained(llama)
    language_model(str(llama), PROMPTS).draw("cat", [1])
    word_tokenizer().save_pretrained(llama)
    assert set(seen) == {"a dog with fur", "[a cat with fur]"}


def test_the_global_random_state_is_left_alone(llama):
    before = torch.random.get_rng_state()
    language_model(str(llama), PROMPTS).draw("dog", [1])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(AnchorError, match="cannot be loaded"):
        language_model(str(tmp_path), PROMPTS)


def test_a_cut_answer_ends_with_its_last_sentence():
    assert whole_sentences("One  two.\nThree! Fo") == "One two. Three!"
    assert whole_sentences("no end") == "no end"
    assert whole_sentences("\n") == ""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion pipeline of a few thousand weights, 16 × 16 pixels."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **blocks,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
        **blocks,
    )
    text = CLIPTextConfig(
        vocab_size=300,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    letters = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        letters |= {letter: len(letters), f"{letter}</w>": len(letters) + 1}
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=letters, merges=[], model_max_length=16),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "tiny-diffusion", safe_serialization=True)
    return folder / "tiny-diffusion"


def test_images_of_a_diffusion_pipeline(anchors, pipeline, tmp_path):
    generator = diffusion_pipeline(str(pipeline), PROMPTS, steps=2)
    one, again, other = (
        fill(anchors, tmp_path / name, generator, licence="CC0-1.0", seed=seed)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one.manifest_sha256 == again.manifest_sha256 != other.manifest_sha256
    file = one.slots[0].files["image"]
    assert file.path == "image/cat-1.png"
    assert file.made is not None
    assert (file.made["generator"], file.made["model"], file.made["steps"]) == (
        "diffusion pipeline",
        "tiny-diffusion",
        2,
    )
    assert len(one.contents(modalities.load("image"))) == 4
