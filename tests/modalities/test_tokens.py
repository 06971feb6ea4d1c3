"""What single tokenizers compute, by hand."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
import torch
from fedgram import modalities
from fedgram.errors import DataError
from fedgram.modalities.genomics import KmerCounts, canonical_kmers
from fedgram.modalities.tabular import NumericTokens, Row, fit_scale
from site_data import FASTA, LABELS, write_image, write_site


def test_kmer_counts_by_hand():
    # 2-mers of AACGTTN: AA, AC | CG, GT, TT; TN does not count. AA = TT and AC = GT on the other strand.
    tokenizer = KmerCounts(k=2, pieces=2)
    columns = canonical_kmers(2)
    assert columns["AA"] == columns["TT"]
    assert columns["AC"] == columns["GT"]
    assert len(set(columns.values())) == tokenizer.width == 10
    expected = np.zeros((2, 10), dtype=np.float32)
    expected[0, columns["AA"]] = expected[0, columns["AC"]] = expected[0, columns["CG"]] = 1
    expected[0, columns["GT"]] += 1  # starts at base 4 of 7, in the first piece
    expected[1, columns["TT"]] = 1
    assert np.array_equal(tokenizer.count("AACGTTN"), expected)
    tokens = tokenizer(["AACGTTN"])
    assert torch.allclose(tokens.values[0, 0].norm(), torch.tensor(1.0))


def test_kmers_do_not_depend_on_the_strand():
    tokenizer = KmerCounts(k=3, pieces=1)
    assert torch.equal(tokenizer(["ACCTGATTACA"]).values, tokenizer(["TGTAATCAGGT"]).values)


def test_a_constant_column_is_only_centred():
    """The deviation of three times 0.1 is 1.4e-17 by rounding: divided by that, all else would be 4 away."""
    assert np.full(3, 0.1).std() > 0
    scale = fit_scale("dose", np.full(3, 0.1))
    assert scale(0.1) == pytest.approx(0.0, abs=1e-15)
    assert scale(0.15) == pytest.approx(0.05)


def test_a_piece_without_kmers_is_masked():
    tokens = KmerCounts(k=3, pieces=2)(["ACGTACNNNNNN"])
    assert tokens.mask.tolist() == [[True, False]]
    with pytest.raises(DataError, match="no run of 3"):
        KmerCounts(k=3, pieces=2)(["ACNNGT"])


def test_gaps_are_taken_out_and_rna_is_dna(tmp_path):
    (tmp_path / "a.fasta").write_text(">a first\nAC-g\nU..N\n")
    assert modalities.load("genomics").read_anchor(tmp_path / "a.fasta") == "ACGTN"


def test_gzipped_fasta_is_the_same(tmp_path):
    plain = modalities.load("genomics").read(write_site("genomics", tmp_path))
    (tmp_path / "zipped.fasta.gz").write_bytes(gzip.compress(FASTA.lower().encode()))
    (tmp_path / "zipped.csv").write_text(LABELS)
    assert modalities.load("genomics").read(tmp_path / "zipped.fasta.gz") == plain


def test_numeric_tokens_by_hand():
    columns = ("a", "b")
    rows = [Row(columns, (1.0, 10.0), "r1"), Row(columns, (3.0, math.nan), "r2")]
    tokenizer = NumericTokens(rows)
    tokens = tokenizer([Row(("b", "a"), (math.nan, 5.0), "r3")])  # a: mean 2, std 1, so v = 3
    assert tokens.mask.tolist() == [[True, False]]
    features = torch.tensor([1, 3, math.sin(3), math.cos(3), math.sin(6), math.cos(6)])
    torch.testing.assert_close(tokens.values[0, 0], tokenizer._projections[0] @ features)
    assert not tokens.values[0, 1].any()


def test_numeric_identity_depends_on_the_training_rows_and_columns():
    def identity(columns, *values):
        return NumericTokens([Row(columns, v, "") for v in values]).identity

    assert identity(("a",), (1.0,), (3.0,)) == identity(("a",), (3.0,), (1.0,))
    assert identity(("a",), (1.0,), (3.0,)) != identity(("a",), (1.0,), (4.0,))
    assert identity(("a",), (1.0,), (3.0,)) != identity(("b",), (1.0,), (3.0,))


def test_scales():
    skewed = fit_scale("mass", np.array([1.0, 10.0, 1000.0, math.nan]))
    assert skewed.log
    assert skewed(math.exp(skewed.mean)) == pytest.approx(0)
    assert skewed(-1.0) == -4.0
    plain = fit_scale("x", np.array([-1.0, 1.0]))
    assert (plain.log, plain(0.5), plain(99.0)) == (False, 0.5, 4.0)
    assert fit_scale("x", np.array([7.0, 7.0]))(7.0) == 0.0


def test_images_of_one_patient_are_one_group(tmp_path):
    for seed, name in enumerate(("dog/p1/a.png", "dog/p1/b.png", "cat/p1/a.png", "dog/c.png", "dog/.hidden.png")):
        write_image(tmp_path / name, seed)
    groups = {s.id: s.group for s in modalities.load("image").read(tmp_path)}
    assert groups == {"cat/p1/a.png": "p1", "dog/c.png": "dog/c.png", "dog/p1/a.png": "p1", "dog/p1/b.png": "p1"}
