"""Recordings: how they are read, what is refused, and that tokens are an encoder's own hidden states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoders import save_audio
from fedgram import modalities
from fedgram.config.site import Columns, Reading
from fedgram.data.clips import Clip, open_clip, remarks
from fedgram.errors import DataError
from fedgram.modalities.hearing import AudioEncoder
from site_data import write_sound
from transformers import AutoFeatureExtractor, AutoModel

RATE = 16_000
NOISE = np.random.default_rng(0).normal(size=RATE).astype(np.float32) * 0.1
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)


def written(path: Path, wave: np.ndarray, rate: int = RATE, **kind: str) -> Path:
    soundfile.write(path, wave, rate, **kind)
    return path


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    return path


@pytest.mark.parametrize(
    ("name", "kind", "closeness"),
    [
        ("a.wav", {}, 1e-4),
        ("a.wav", {"subtype": "FLOAT"}, 1e-6),
        ("a.WAV", {"subtype": "PCM_24"}, 1e-6),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.05),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.2),
    ],
)
def test_every_format_is_the_same_sound(name: str, kind: dict[str, str], closeness: float, tmp_path: Path):
    rate = 48_000 if name == "a.opus" else RATE
    wave = open_clip(Clip(written(tmp_path / name, TONE, rate, **kind)))
    assert wave.dtype == np.float32
    assert wave.shape == TONE.shape
    np.testing.assert_allclose(wave, TONE, atol=closeness)


def test_channels_are_averaged_and_the_rate_is_the_encoders(tmp_path: Path):
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    path = written(tmp_path / "a.wav", stereo, subtype="FLOAT")
    np.testing.assert_allclose(open_clip(Clip(path)), TONE / 2, atol=1e-6)
    down = open_clip(Clip(path), 11_025)
    times = np.arange(11_025) / 11_025
    assert down.shape == times.shape
    np.testing.assert_allclose(down[200:-200], 0.25 * np.sin(2 * np.pi * 440 * times)[200:-200], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_gone(tmp_path: Path):
    """Without a filter a tone of 7 kHz would come back as one of 1 kHz."""
    high = 0.5 * np.sin(2 * np.pi * 7000 * np.arange(RATE) / RATE)
    assert np.abs(open_clip(Clip(written(tmp_path / "a.wav", high)), 8000)[200:-200]).max() < 5e-3


@pytest.mark.parametrize(
    ("name", "make", "parts"),
    [
        ("a.wav", lambda p: p.write_bytes(b""), ["unreadable recording"]),
        ("a.wav", lambda p: p.write_bytes(b"Xq77 no sound"), ["unreadable recording", "WAV, FLAC or OGG"]),
        ("a.mp3", lambda p: p.write_bytes(b"ID3"), ["suffix .mp3", "write it as WAV"]),
        ("a.wav", lambda p: written(p, TONE[:0]), ["no samples"]),
        ("a.wav", lambda p: written(p, TONE[:100]), ["0.00625 s", "0.05 … 600 s"]),
        ("a.wav", lambda p: written(p, np.ones(700_000), 1000), ["700 s", "of one group"]),
        ("a.wav", lambda p: written(p, TONE, 400), ["400 samples a second"]),
        ("a.wav", lambda p: written(p, 0 * TONE), ["digital silence"]),
        ("a.wav", lambda p: written(p, np.stack([TONE, -TONE], 1)), ["opposite sign"]),
        ("a.wav", lambda p: written(p, TONE * 32767, subtype="FLOAT"), ["beyond 8 times full scale"]),
        ("a.wav", lambda p: written(p, np.where(TONE > 0.49, np.nan, TONE), subtype="FLOAT"), ["is not a number"]),
        ("a.wav", lambda p: cut(written(p, TONE), 0.5), ["cut short", "of the 32000 bytes"]),
        ("a.flac", lambda p: cut(written(p, NOISE), 0.5), ["a.flac"]),
        ("a.ogg", lambda p: cut(written(p, NOISE), 0.5), ["cut short"]),
    ],
)
def test_a_recording_is_refused(name: str, make: Callable[[Path], object], parts: list[str], tmp_path: Path):
    path = tmp_path / name
    make(path)
    with pytest.raises(DataError) as caught:
        modalities.load("audio").read_anchor(path)
    message = str(caught.value)
    assert all(part in message for part in [*parts, name]), message
    assert "Xq77" not in message


def test_without_soundfile_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path / "a.wav", TONE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"fedgram\[audio\]"):
        open_clip(Clip(path))


def test_a_table_names_recordings_and_suffixes_may_be_left_out(tmp_path: Path):
    write_sound(tmp_path / "clips" / "a.FLAC", 300)
    write_sound(tmp_path / "clips" / "b.wav", 300)
    (tmp_path / "labels.csv").write_text("id,file,concept,patient\n1,clips/a,dog,x\n2,clips\\b.wav,cat,y\n")
    reading = Reading(columns=Columns(path="file", group="patient"))
    samples = modalities.load("audio").read(tmp_path / "labels.csv", reading)
    assert [s.content.path.name for s in samples] == ["a.FLAC", "b.wav"]
    assert [s.group for s in samples] == ["x", "y"]


def test_strangers_in_a_folder_are_named(tmp_path: Path):
    write_sound(tmp_path / "dog" / "p1" / "a.wav", 300)
    (tmp_path / "dog" / "notes.txt").write_text("a dog")
    with pytest.raises(DataError, match=r"notes\.txt: not a recording"):
        modalities.load("audio").read(tmp_path)
    (tmp_path / "dog" / "notes.txt").unlink()
    (sample,) = modalities.load("audio").read(tmp_path)
    assert (sample.id, sample.group, sample.concept) == ("dog/p1/a.wav", "p1", "dog")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    saved: dict[str, str] = {}

    def folder(name: str) -> str:
        if name not in saved:
            saved[name] = save_audio(name, tmp_path_factory.mktemp("encoders") / name)
        return saved[name]

    return folder


def own_states(folder: str, wave: np.ndarray) -> torch.Tensor:
    """What the checkpoint says of one waveform by the plainest way through transformers."""
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        return model(**extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt"))[0][0]


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_hidden_states_follow_time(name: str, folders: Callable[[str], str], tmp_path: Path):
    """0.2 s of 8 kHz are 20 hidden states, each a token."""
    path = written(tmp_path / "a.wav", NOISE[:1600], 8000, subtype="FLOAT")
    tokens = AudioEncoder(folders(name))([Clip(path)])
    states = own_states(folders(name), NOISE[:1600])
    assert tokens.mask.sum() == len(states) == 20
    torch.testing.assert_close(tokens.values[0, :20], states)


def test_whispers_padding_is_left_out(folders: Callable[[str], str], tmp_path: Path):
    """It hears 1 s in 50 hidden states; of half a second the first 25 are of the recording."""
    path = written(tmp_path / "a.wav", NOISE[:8000], subtype="FLOAT")
    tokens = AudioEncoder(folders("whisper"))([Clip(path)])
    assert tokens.mask.sum() == 25
    torch.testing.assert_close(tokens.values[0, :25], own_states(folders("whisper"), NOISE[:8000])[:25])


def test_patches_of_ast_are_averaged_over_frequencies(folders: Callable[[str], str], tmp_path: Path):
    """32 frames of 16 bands in patches of 8, every 4: 7 times and 3 rows; the mean of two summaries goes first."""
    wave = NOISE[: int(0.32 * RATE)]
    tokens = AudioEncoder(folders("ast"))([Clip(written(tmp_path / "a.wav", wave, subtype="FLOAT"))])
    states = own_states(folders("ast"), wave)
    assert states.shape == (2 + 3 * 7, 16)
    expected = [(states[0] + states[1]) / 2]
    expected += [(states[2 + t] + states[2 + 7 + t] + states[2 + 14 + t]) / 3 for t in range(7)]
    assert tokens.mask[0].tolist() == [True] * 8 + [False] * 25
    torch.testing.assert_close(tokens.values[0, :8], torch.stack(expected))


def test_a_longer_recording_is_seen_in_windows_and_nothing_is_cut(folders: Callable[[str], str], tmp_path: Path):
    """1.75 s are two windows of Whisper's 1 s, from 0 and from 0.75 s, and the tokens are means over time."""
    wave = np.tile(NOISE, 2)[: int(1.75 * RATE)]
    path = written(tmp_path / "long.wav", wave, subtype="FLOAT")
    encoder = AudioEncoder(folders("whisper"))
    tokens = encoder([Clip(path)])
    first, second = (own_states(folders("whisper"), part) for part in (wave[:RATE], wave[int(0.75 * RATE) :]))
    sums = [torch.zeros(16) for _ in range(88)]
    counts = [0] * 88
    for start, states in ((0, first), (38, second)):  # round(0.75 · 50) = 38
        for t, state in enumerate(states):
            sums[start + t] += state
            counts[start + t] += 1
    every = [total / count for total, count in zip(sums, counts, strict=True)]
    expected = [torch.stack([s for t, s in enumerate(every) if t * 32 // 88 == j]).mean(0) for j in range(32)]
    assert tokens.mask.all()
    torch.testing.assert_close(tokens.values[0], torch.stack(expected))
    (said,) = encoder.remarks([Clip(path)])
    assert "1 of 1 recordings are longer than the 1 s" in said


def test_low_rates_are_said(tmp_path: Path):
    clips = [Clip(written(tmp_path / f"{rate}.wav", TONE, rate)) for rate in (8000, RATE)]
    (said,) = remarks(clips, RATE, None)
    assert "1 of 2 recordings have fewer than the encoder's 16000 samples a second, one of them 8000" in said


def test_log_mel_tells_pitches_apart_whatever_their_gain(tmp_path: Path):
    tokenizer = modalities.load("audio").tokenizer("log-mel", [])
    waves = {"low": TONE, "quiet": TONE / 10, "high": np.sin(np.arange(RATE))}
    clips = [Clip(written(tmp_path / f"{n}.wav", w + NOISE * np.abs(w).max() / 10)) for n, w in waves.items()]
    low, quiet, high = tokenizer(clips).values
    assert low.shape == (16, 128)
    assert (low - quiet).norm() < 0.2 * (low - high).norm()


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path):
    from site_data import save_bert

    with pytest.raises(DataError, match=r"(?s)cannot be loaded.*remedy"):
        modalities.load("audio").tokenizer(save_bert(tmp_path / "bert", ["dog"]), [])
