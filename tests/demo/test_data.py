from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from aggregator.demo import data
from aggregator.demo.data import RECORDS_LEAST, Records


def rows(study: data.Study) -> list[bytes]:
    parts = [*study.shards, study.held_out]
    return sorted(row.tobytes() for part in parts for row in np.column_stack([part.features, part.labels]))


@pytest.mark.parametrize("sites", [2, 10, 100])
def test_no_record_is_lost_or_doubled(sites: int) -> None:
    study = data.deal(sites, seed=5)
    source = load_breast_cancer()
    assert len(rows(study)) == len(source.target) == 569
    assert len(set(rows(study))) == len({row.tobytes() for row in source.data})
    assert rows(study) == rows(data.deal(2, seed=0))
    assert min(map(len, study.shards)) >= RECORDS_LEAST


def test_a_quarter_of_each_diagnosis_is_held_out() -> None:
    study = data.deal(10, seed=1)
    assert study.held_out.labels.sum() == round(0.25 * 212)
    assert len(study.held_out) == round(0.25 * 212) + round(0.25 * 357)


def test_malignant_is_one_and_scaling_is_public() -> None:
    study, source = data.deal(10, seed=1), load_breast_cancer()
    assert study.pooled.labels.sum() + study.held_out.labels.sum() == (source.target == 0).sum() == 212
    features = np.concatenate([study.pooled.features, study.held_out.features])
    np.testing.assert_allclose(features.min(axis=0), -1.8)
    np.testing.assert_allclose(features.max(axis=0), 4.2)


@pytest.mark.parametrize("seed", range(5))
def test_hospitals_differ_in_size_and_in_diagnoses(seed: int) -> None:
    shards = data.deal(10, seed).shards
    sizes = [len(shard) for shard in shards]
    malignant = [shard.labels.mean() for shard in shards]
    assert max(sizes) > 3 * min(sizes)
    assert max(malignant) - min(malignant) > 0.4


def test_the_split_is_the_seeds() -> None:
    one, same, other = data.deal(10, 1), data.deal(10, 1), data.deal(10, 2)
    assert all(np.array_equal(a.features, b.features) for a, b in zip(one.shards, same.shards, strict=True))
    assert [len(shard) for shard in one.shards] != [len(shard) for shard in other.shards]
    assert not np.array_equal(one.held_out.features, other.held_out.features)


def test_records_survive_a_file(tmp_path: Path) -> None:
    shard = data.deal(10, 1).shards[0]
    shard.save(tmp_path / "records.npz")
    read = Records.load(tmp_path / "records.npz")
    assert np.array_equal(read.features, shard.features)
    assert np.array_equal(read.labels, shard.labels)
