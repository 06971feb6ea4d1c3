"""Janus against transformers' own forward, processor and generation."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import tiny_janus
import torch
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError, DataError
from fedgram.model import lora
from fedgram.model.attaching import attach
from fedgram.model.backbone import fingerprint, load_backbone
from fedgram.model.unified.janus import Janus, load_janus
from PIL import Image
from torch import Tensor
from transformers import BertConfig, BertModel, JanusForConditionalGeneration, JanusProcessor

QUESTIONS = ["what colour is the square?", "is the circle red?"]
ANSWERS = ["red", "no circle"]
PROMPTS = ["a photo of a red square", "a circle"]
SETTINGS = {"rank": 2, "alpha": 4.0, "targets": "all-linear", "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_janus.save(tmp_path_factory.mktemp("janus"))


@pytest.fixture(scope="module")
def janus(folder: str) -> Janus:
    return load(folder)


@pytest.fixture(scope="module")
def published(folder: str) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    return JanusForConditionalGeneration.from_pretrained(folder).eval(), JanusProcessor.from_pretrained(folder)


def load(folder: str, layers: int | None = None) -> Janus:
    return load_janus(BackboneConfig("tiny", layers), {"tiny": folder})


def images() -> list[Image.Image]:
    return [Image.new("RGB", (20, 16), "red"), Image.radial_gradient("L").resize((16, 16))]


def chats(contents: list[list[dict]], processor: JanusProcessor) -> list[str]:
    messages = [[{"role": "user", "content": content}] for content in contents]
    return [processor.apply_chat_template(m, add_generation_prompt=True) for m in messages]


def asked(processor: JanusProcessor) -> dict[str, Tensor]:
    """What the published processor makes of the questions."""
    texts = chats([[{"type": "image"}, {"type": "text", "text": q}] for q in QUESTIONS], processor)
    return processor(text=texts, images=[i.convert("RGB") for i in images()], padding=True, return_tensors="pt")


def prompted(processor: JanusProcessor) -> dict[str, Tensor]:
    texts = chats([[{"type": "text", "text": p}] for p in PROMPTS], processor)
    return processor(text=texts, generation_mode="image", padding=True, return_tensors="pt")


@pytest.mark.parametrize("system_prompt", [False, True])
def test_questions_are_those_of_the_processor(tmp_path: Path, system_prompt: bool):
    janus = load(tiny_janus.save(tmp_path, system_prompt=system_prompt))
    expected = asked(janus.processor)
    got = janus.chat.questions(QUESTIONS, 16)
    assert torch.equal(got.values, expected["input_ids"])
    assert torch.equal(got.mask, expected["attention_mask"])


def test_prompts_are_those_of_the_processor(janus, published):
    expected, got = prompted(published[1]), janus.chat.prompts(PROMPTS)
    assert torch.equal(got.values, expected["input_ids"])
    assert torch.equal(got.mask, expected["attention_mask"])


def test_understanding_loss_is_that_of_a_direct_forward_with_labels(janus, published):
    model, processor = published
    question, rows = (
        asked(processor),
        [[*processor.tokenizer(f" {a}", add_special_tokens=False).input_ids] for a in ANSWERS],
    )
    end, pad = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id
    longest = max(map(len, rows)) + 1
    given = torch.tensor([[*row, end] + [pad] * (longest - len(row) - 1) for row in rows])
    there = torch.tensor([[1] * (len(row) + 1) + [0] * (longest - len(row) - 1) for row in rows])
    ids, mask = torch.cat([question["input_ids"], given], 1), torch.cat([question["attention_mask"], there], 1)
    labels = ids.clone()
    labels[:, :-longest] = -100
    labels[:, -longest:][there == 0] = -100
    pixels = question["pixel_values"]
    expected = model(input_ids=ids, pixel_values=pixels, attention_mask=mask, labels=labels).loss
    got = janus.understanding_loss(janus.see(images()), QUESTIONS, ANSWERS)
    torch.testing.assert_close(got, expected)


def test_generation_loss_is_that_of_a_direct_forward(janus, published):
    """One prompt at a time, without padding; no words are dropped."""
    model, processor = published
    codes = janus.targets(images())
    losses = []
    for i in range(len(PROMPTS)):
        alone = chats([[{"type": "text", "text": PROMPTS[i]}]], processor)
        ids = processor(text=alone, generation_mode="image", return_tensors="pt")["input_ids"]
        embedded = model.get_input_embeddings()(ids)
        pictured = model.prepare_embeddings_for_image_generation(codes[i : i + 1])
        states = model.model.language_model(inputs_embeds=torch.cat([embedded, pictured], 1)).last_hidden_state
        logits = model.model.generation_head(states[:, ids.shape[1] - 1 : -1])
        losses.append(torch.nn.functional.cross_entropy(logits[0], codes[i]))
    got = janus.codes_loss(janus.chat.prompts(PROMPTS), codes)
    torch.testing.assert_close(got, torch.stack(losses).mean())


def test_one_prompt_in_ten_is_dropped_and_the_generator_says_which(janus):
    codes = janus.targets(images())[:1].repeat(40, 1)
    prompts = [PROMPTS[0]] * 40

    def loss(seed: int) -> Tensor:
        return janus.generation_loss(prompts, codes, torch.Generator().manual_seed(seed))

    said = janus.chat.prompts(PROMPTS[:1])
    silent = type(said)(janus.chat.without_words(said.values), said.mask)
    with_words, without = (janus.codes_loss(ids, codes[:1]) for ids in (said, silent))
    share = (loss(1) - with_words) / (without - with_words)
    dropped = (torch.rand(40, generator=torch.Generator().manual_seed(1)) < 0.1).float().mean()
    assert 0 < dropped < 0.3
    torch.testing.assert_close(share, dropped, rtol=1e-3, atol=1e-3)
    assert loss(1) == loss(1) != loss(3)


def test_rehearsal_is_the_loss_of_making_and_the_divergence_from_the_base(folder):
    """KL of every code's distribution, by its definition."""
    base, trained = load(folder), load(folder)
    with torch.no_grad():  # else the codes would be about as likely with any weights
        for weight in (*base.head.parameters(), *trained.head.parameters()):
            weight *= 30
    trained.tower = attach(trained.tower, **SETTINGS, dora=False)
    codes, said = base.targets(images()), base.chat.prompts(PROMPTS)  # the generator drops no words

    def draws() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def losses() -> tuple[Tensor, Tensor]:
        return trained.rehearsal_losses(PROMPTS, codes, draws(), partial(lora.untrained, trained.tower))

    assert losses()[1].item() == pytest.approx(0.0, abs=1e-6)
    for layer in lora.adapted_layers(trained.tower).values():
        torch.nn.init.normal_(layer.B, generator=torch.Generator().manual_seed(1))
    making, drift = losses()
    assert making == trained.generation_loss(PROMPTS, codes, draws())
    assert making == trained.codes_loss(said, codes)
    before, after = (m._code_logits(said, codes).detach().double().softmax(-1) for m in (base, trained))
    expected = sum(float((p * (p / q).log()).sum()) for p, q in zip(before, after, strict=True)) / codes.numel()
    assert drift.item() == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-2


def test_see_and_targets_are_the_outputs_of_the_frozen_parts(janus, published):
    model, processor = published
    pixels = asked(processor)["pixel_values"]
    with torch.no_grad():
        features = model.model.get_image_features(pixels).pooler_output
        aligned = janus.model.model.aligner(janus.see(images()))
        codes = model.model.vqmodel.encode(pixels).image_tokens
    torch.testing.assert_close(aligned, features)
    assert torch.equal(janus.targets(images()), codes.view(2, -1))
    assert janus.see(images()).shape == (2, 16, 24)
    assert janus.targets(images()).shape == (2, 16)


def test_answers_are_those_of_transformers(janus, published):
    model, processor = published
    question = asked(processor)
    greedy = {"do_sample": False, "max_new_tokens": 32, "top_k": None}
    with torch.no_grad():
        expected = model.generate(**question, **greedy)[:, question["input_ids"].shape[1] :]
    got = janus.understand(janus.see(images()), QUESTIONS)
    assert got == [text.strip() for text in processor.batch_decode(expected, skip_special_tokens=True)]
    assert len(set(got)) == 2


def test_an_answer_ends_where_the_model_ends_it(janus):
    ids = janus.chat.answers(["red", "no circle"]).values
    assert janus.chat.read(ids) == ["red", "no circle"]
    after = torch.cat([ids, ids], 1)
    assert janus.chat.read(after) == ["red", "no circle"]


def test_pictures_are_those_of_transformers_with_the_same_draws(janus, published):
    model, processor = published
    torch.manual_seed(3)
    codes = model.generate(**prompted(processor), generation_mode="image", do_sample=True)
    expected = janus.pictures(codes)
    got = janus.generate(PROMPTS, torch.Generator().manual_seed(3))
    assert [p.tobytes() for p in got] == [p.tobytes() for p in expected]
    other = janus.generate(PROMPTS, torch.Generator().manual_seed(4))
    assert [p.tobytes() for p in got] != [p.tobytes() for p in other]
    decoded = [picture.permute(2, 0, 1) for picture in model.decode_image_tokens(codes).float()]
    shown = processor.postprocess(decoded, return_tensors="PIL.Image.Image")
    for ours, theirs in zip(expected, shown["pixel_values"], strict=True):
        torch.testing.assert_close(_pixels(ours), _pixels(theirs), rtol=0, atol=1)


def _pixels(image: Image.Image) -> Tensor:
    return torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.float)


def test_a_representation_is_the_mean_over_the_tokens_of_the_picture(janus, published):
    model, processor = published
    seen = janus.see(images()).requires_grad_()
    z = janus.represent(seen)
    start = [processor.tokenizer.bos_token_id, processor.tokenizer.convert_tokens_to_ids("<begin_of_image>")]
    framed = torch.cat([model.get_input_embeddings()(torch.tensor([start, start])), model.model.aligner(seen)], 1)
    states = model.model.language_model(inputs_embeds=framed).last_hidden_state
    torch.testing.assert_close(z, states[:, 2:].mean(1))
    z.sum().backward()
    assert seen.grad is not None
    assert seen.grad.abs().sum() > 0


@pytest.mark.parametrize("layers", [None, 1])
def test_a_unified_and_a_unimodal_site_train_the_same_update(folder: str, layers: int | None):
    """Same names, shapes and base weights: their updates can be averaged."""
    tower = load(folder, layers).tower
    alone = load_backbone(BackboneConfig("tiny", layers), {"tiny": folder})
    assert fingerprint(tower) == fingerprint(alone)
    here, there = (attach(model, dora=True, **SETTINGS) for model in (tower, alone))
    assert lora.spec(here) == lora.spec(there)
    for name, down in lora.get_A(here).items():
        assert torch.equal(down, lora.get_A(there)[name])


def test_only_the_update_trains_and_both_losses_reach_it(folder: str):
    janus = load(folder)
    wrapped = attach(janus.tower, dora=False, **SETTINGS)
    seen, codes = janus.see(images()), janus.targets(images())
    before = janus.understanding_loss(seen, QUESTIONS, ANSWERS)
    trained = {n for n, p in janus.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("language_model" in name and "lora_" in name for name in trained)
    for loss in (before, janus.codes_loss(janus.chat.prompts(PROMPTS), codes)):
        gradients = torch.autograd.grad(loss, [p for p in janus.model.parameters() if p.requires_grad])
        assert any(g.abs().sum() > 0 for g in gradients)
    moved = {k: torch.ones_like(b) for k, b in lora.get_B(wrapped).items()}
    lora.set_B(wrapped, moved)
    assert janus.understanding_loss(seen, QUESTIONS, ANSWERS) != before


def test_a_question_that_stands_for_a_picture_is_refused(janus):
    with pytest.raises(DataError, match="stands for a picture"):
        janus.understand(janus.see(images()), ["what is <image_placeholder>?", "what?"])


def test_what_is_no_janus_is_refused(tmp_path: Path):
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=5, **shape)).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="type 'bert'"):
        load(str(tmp_path))


def test_more_layers_than_there_are_is_refused(folder: str):
    with pytest.raises(BackboneError, match="3 layers"):
        load(folder, 3)


def test_a_folder_without_weights_or_without_a_processor_is_refused(tmp_path: Path):
    tiny_janus.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load(str(tmp_path))
    with pytest.raises(BackboneError, match="no folder"):
        load(str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("lacking", ["bos_token", "chat_template"])
def test_a_checkpoint_without_a_chat_template_or_a_needed_token_is_refused(tmp_path: Path, lacking: str):
    tiny_janus.save(tmp_path)
    if lacking == "chat_template":
        (tmp_path / "chat_template.jinja").unlink()
    else:
        path = tmp_path / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in settings.items() if k != lacking}))
    with pytest.raises(BackboneError, match=r"no bos token|no chat template"):
        load(str(tmp_path))
