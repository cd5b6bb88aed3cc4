"""One line for a file that is no checkpoint: which, how large, what to do."""

import pickle

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

import mmskip  # noqa: F401  (mends the loader)


def checkpoint(tmp_path, zipped):
    path = tmp_path / 'whole.pth'
    torch.save(
        {'weight': torch.zeros(100)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    return path.read_bytes()


def cut(zipped, share):
    def make(tmp_path):
        content = checkpoint(tmp_path, zipped)
        return content[: int(share * len(content))]

    return make


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda _: b'', r'is empty \(0 bytes\); download or copy it again'),
        (cut(True, 0.1), r'cut short \([\d,]+ bytes\); download'),
        (cut(True, 0.9), r'cut short \([\d,]+ bytes\); download'),
        (cut(False, 0.1), r'cut short \([\d,]+ bytes\); download'),
        (cut(False, 0.9), r'cut short \([\d,]+ bytes\); download'),
        (
            lambda _: b'version https://git-lfs.github.com/spec/v1\nsize 9',
            r'pointer of Git LFS \(49 bytes\).*git lfs pull',
        ),
        (
            lambda _: b'\n<!DOCTYPE html><html>404</html>',
            r'web page \(32 bytes\).*download the file itself',
        ),
        (lambda _: b'state_dict: 1', r"no checkpoint.*13 bytes.*'state_di'"),
        (lambda _: bytes(1000), r'no checkpoint.*1,000 bytes'),
        (
            lambda _: bytes(257) + b'ustar' + bytes(1000),
            r'tar format of torch 0\.1 \(1,262 bytes\)',
        ),
        (lambda _: pickle.dumps({1: 2}), r'cannot be read \(\d+ bytes'),
    ],
)
def test_a_file_that_is_no_checkpoint_gets_one_line(tmp_path, make, message):
    path = tmp_path / 'file.pth'
    path.write_bytes(make(tmp_path))
    with pytest.raises(pickle.UnpicklingError, match=message) as error:
        CheckpointLoader.load_checkpoint(str(path))
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)
    assert 'Weights only load failed' not in str(error.value)


def test_a_flipped_bit_of_a_weight_is_found(tmp_path):
    path = tmp_path / 'file.pth'
    torch.save({'weight': torch.full((1000,), 7.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(b'\0\0\xe0\x40' * 10) + 402] ^= 1
    path.write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match=r'damaged.*data/0 is'):
        CheckpointLoader.load_checkpoint(str(path))


def test_files_without_checksums_are_believed(tmp_path):
    path = tmp_path / 'file.pth'
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'weight': torch.ones(3)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert CheckpointLoader.load_checkpoint(str(path))['weight'].sum() == 3
