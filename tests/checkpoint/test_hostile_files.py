"""Checkpoints made to crash, hang or exhaust whoever opens them: one message, in little memory and time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.checkpoint.unpickle import unpickle
from loihi_mmfree.errors import CheckpointError

NAME = "model.embeddings.weight"


def write_pickle(path: Path, content: bytes) -> Path:
    """A file in the zip format of torch.save that holds a pickle and no tensors."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


HOSTILE_PICKLES = {
    "a key that is nested deep, whose hash overflows the stack": b"}" + b")" + b"\x85" * 10**5 + b"K\x01s.",
    "a value that is nested deep": b"}X\x01\x00\x00\x00a)" + b"\x85" * 10**5 + b"s.",
    "lists that double what they share": b"]q\x00" + b"h\x00h\x00\x86q\x00" * 10**5 + b".",
    "a million empty dictionaries": b"(" + b"}" * 10**6 + b"l.",
    "a million calls": b"(ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 10**6 + b"l.",
    "text that claims to be long": b"X\xff\xff\xff\x7fabc.",
    "bytes that claim to be long": b"\x8e" + b"\xff" * 8 + b"abc.",
    "an integer of a megabyte": b"\x8b" + struct.pack("<I", 10**6) + b"\xff" * 10**6 + b".",
    "text encoded again and again": b"c_codecs\nencode\nX\xff\xff\x00\x00" + b"a" * 65535 + b"q\x00"
    b"X\x06\x00\x00\x00latin1\x86q\x01" + b"c_codecs\nencode\nh\x01R" * 10**4 + b".",
    "a name that is not UTF-8": b"}X\x02\x00\x00\x00\xff\xfeNs.",
    "nothing": b"",
    "no end": b"N" * 100,
    "a mark that is missing": b"t.",
    "an empty stack": b"s.",
    "something never put aside": b"h\x07.",
    "a tensor without storage": b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(K\x00K\x00))N)tRs.",
    "a call of a string": b"X\x01\x00\x00\x00a)R.",
    "operations of text protocols": b"I1\n.",
}


@pytest.mark.parametrize("content", HOSTILE_PICKLES.values(), ids=HOSTILE_PICKLES)
def test_a_hostile_pickle_is_refused(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"a\.pt: "):
        open_checkpoint(write_pickle(tmp_path / "a.pt", b"\x80\x02" + content))


def test_hostile_pickles_take_little_memory_and_leave_the_process_alive(tmp_path):
    for number, content in enumerate(HOSTILE_PICKLES.values()):
        write_pickle(tmp_path / f"{number}.pt", b"\x80\x02" + content)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from loihi_mmfree.checkpoint import open_checkpoint\n"
        "from loihi_mmfree.errors import CheckpointError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try:\n"
        "        open_checkpoint(path)\n"
        "    except CheckpointError:\n"
        "        continue\n"
        "    sys.exit('opened')\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    grown, torch_loaded = done.stdout.split()
    assert float(grown) < 256
    assert torch_loaded == "False"


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "torch.load", "torch._utils._rebuild_qtensor"])
def test_what_a_pickle_names_is_not_looked_up(name):
    module, function = name.rsplit(".", 1)
    with pytest.raises(ValueError, match=f"^{name}$"):
        unpickle(f"c{module}\n{function}\n)R.".encode())


class TestArchives:
    """Zip archives that are not as torch writes them."""

    @pytest.fixture
    def saved(self, folder: Path, state: dict[str, torch.Tensor]) -> Path:
        torch.save(state, folder / "model.pt")
        return folder / "model.pt"

    def rewrite(self, path: Path, compression: int = zipfile.ZIP_STORED, **changes: bytes | None) -> None:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: archive.read(info) for info in archive.infolist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries.items():
                replaced = changes.get(name.split("/", 1)[1].replace("/", "_").replace(".", "_"), content)
                if replaced is not None:
                    archive.writestr(name, replaced)

    def test_an_archive_written_by_another_program_is_read(self, saved):
        self.rewrite(saved)
        assert open_checkpoint(saved).tensor(NAME).shape == (11, 8)

    def test_compressed_content(self, saved):
        self.rewrite(saved, zipfile.ZIP_DEFLATED)
        with pytest.raises(CheckpointError, match=r"is compressed, as torch\.save does not write it"):
            open_checkpoint(saved)

    def test_a_storage_that_is_missing(self, saved):
        self.rewrite(saved, data_0=None)
        with pytest.raises(CheckpointError, match="data/0' is missing"):
            open_checkpoint(saved)

    def test_a_storage_that_is_too_short(self, saved):
        self.rewrite(saved, data_0=b"\0" * 10)
        with pytest.raises(CheckpointError, match="is not stored in full"):
            open_checkpoint(saved)

    def test_another_byte_order(self, saved):
        self.rewrite(saved, byteorder=b"big")
        with pytest.raises(CheckpointError, match="saved on a big-endian machine"):
            open_checkpoint(saved)

    def test_a_pickle_too_large_to_be_one(self, saved):
        self.rewrite(saved, data_pkl=b"N" * (17 * 2**20))
        with pytest.raises(CheckpointError, match=r"data\.pkl has 17825792 bytes; at most 16777216"):
            open_checkpoint(saved)

    @pytest.mark.parametrize("byte", range(0, 22, 3))
    def test_a_directory_whose_end_is_damaged(self, saved, byte):
        content = bytearray(saved.read_bytes())
        content[len(content) - 22 + byte] ^= 0x55
        saved.write_bytes(content)
        try:
            open_checkpoint(saved).tensor(NAME)
        except CheckpointError as error:
            assert str(saved) in str(error)  # noqa: PT017 (some bytes mean nothing, then it is read)

    def test_more_entries_than_any_checkpoint_has(self, tmp_path):
        entry = b"PK\x01\x02" + b"\0" * 24 + struct.pack("<HHH", 0, 0, 0) + b"\0" * 12
        directory = entry * 10**6
        long_end = b"PK\x06\x06" + b"\0" * 28 + struct.pack("<QQQ", 10**6, len(directory), 4)
        locator = b"PK\x06\x07" + b"\0" * 4 + struct.pack("<Q", 4 + len(directory)) + b"\0" * 4
        end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0, 0, 0)
        (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + directory + long_end + locator + end)
        with pytest.raises(CheckpointError, match="1000000 entries; at most 131072"):
            open_checkpoint(tmp_path / "a.pt")


class TestFilesThatChange:
    """A weight file that is cut short, replaced or taken away between opening and reading."""

    @pytest.fixture(params=["model.safetensors", "pytorch_model.bin"])
    def weights(self, folder: Path, state: dict[str, torch.Tensor], request: pytest.FixtureRequest) -> Path:
        path: Path = folder / request.param
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    def test_cut_short(self, weights):
        checkpoint = open_checkpoint(weights.parent)
        os.truncate(weights, weights.stat().st_size // 2)
        with pytest.raises(CheckpointError, match="changed since it was opened"):
            checkpoint.tensor(NAME)

    def test_cut_short_while_it_is_read(self, weights, monkeypatch):
        checkpoint = open_checkpoint(weights.parent)
        found = os.fstat

        def cut_after_the_check(descriptor: int) -> os.stat_result:
            before = found(descriptor)
            os.truncate(weights, 10)
            return before

        monkeypatch.setattr("loihi_mmfree.checkpoint.source.os.fstat", cut_after_the_check)
        with pytest.raises(CheckpointError, match="changed since it was opened"):
            checkpoint.tensor(NAME)

    def test_replaced(self, weights):
        checkpoint = open_checkpoint(weights.parent)
        os.utime(weights, ns=(1, 1))
        with pytest.raises(CheckpointError, match="changed since it was opened"):
            checkpoint.sha256()

    def test_taken_away(self, weights):
        checkpoint = open_checkpoint(weights.parent)
        weights.unlink()
        for read in (lambda: checkpoint.tensor(NAME), checkpoint.sha256):
            with pytest.raises(CheckpointError, match=rf"{weights}: the checkpoint cannot be read any more"):
                read()


class TestPlaces:
    """Names and files that are not what a checkpoint is made of."""

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
    def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(self, folder, state, name):
        save_file(state, folder / "model.safetensors")
        if name == "pytorch_model.bin":
            (folder / "model.safetensors").unlink()
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(CheckpointError, match=rf"{name}: .*not a regular file"):
            open_checkpoint(folder)

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
    def test_a_device(self, path):
        with pytest.raises(CheckpointError, match="not a regular file"):
            open_checkpoint(path)

    def test_a_link_to_a_device(self, folder, state):
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").unlink()
        (folder / "config.json").symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match="not a regular file"):
            open_checkpoint(folder)

    @pytest.mark.parametrize(
        "name", ["x" * 300 + ".safetensors", "é" * 200 + ".safetensors", "a\ud800", "a\x1bb", 7]
    )
    def test_a_shard_name_that_no_file_can_have(self, folder, name):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match="shard names must be plain file names"):
            open_checkpoint(folder)

    def test_more_shards_than_any_checkpoint_has(self, folder):
        names = {f"t{number}": f"s{number}.safetensors" for number in range(5000)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        with pytest.raises(CheckpointError, match="5000 shards; at most 4096"):
            open_checkpoint(folder)

    @pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "a/" * 3000])
    def test_a_path_that_no_file_can_have(self, path):
        with pytest.raises(CheckpointError, match="no such file or folder"):
            open_checkpoint(path)


@pytest.mark.parametrize(
    ("entry", "data"),
    [
        ({"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}, 2),
        ({"dtype": "F16", "shape": [2**62, 4], "data_offsets": [0, 8]}, 8),
        ({"dtype": "F16", "shape": [-1, -1], "data_offsets": [0, 2]}, 2),
        ({"dtype": "F16", "shape": [1], "data_offsets": [4, 2]}, 2),
        ({"dtype": "F16", "shape": [1.0], "data_offsets": [0, 2]}, 2),
        ({"dtype": 3, "shape": [1], "data_offsets": [0, 2]}, 2),
        ({"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}, 3),
        ({"shape": [1]}, 2),
        ([], 0),
    ],
)
def test_a_safetensors_entry_that_does_not_fit_its_file(folder, entry, data):
    header = json.dumps({NAME: entry}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * data)
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        open_checkpoint(folder)


def test_a_safetensors_header_that_says_twice_where_a_tensor_lies(folder):
    entry = json.dumps({"dtype": "F16", "shape": [1], "data_offsets": [0, 2]})
    header = f'{{"{NAME}": {entry}, "{NAME}": {entry}}}'.encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 2)
    with pytest.raises(CheckpointError, match="a key stands twice"):
        open_checkpoint(folder)


def test_json_that_would_take_much_memory_is_not_parsed(folder, state):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text('{"a": [' + "[]," * 10**5 + "1]}")
    header = b'{"a": [' + b"{}," * (2 * 10**6) + b"1]}"
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="values; at most 1048576 are read"):
        open_checkpoint(folder)


def test_a_configuration_of_nested_values_is_refused_without_showing_them(folder, state):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "hgrn_bit", "vocab_size": ' + "[" * 900 + "]" * 900 + "}")
    with pytest.raises(CheckpointError, match="vocab_size is a list"):
        open_checkpoint(folder)


def test_what_is_read_is_the_same_as_torch_reads(folder, state):
    random = np.random.default_rng(0)
    tensors = {name: torch.from_numpy(random.standard_normal((3, 4, 2))) for name in "abc"}
    tensors |= {
        "transposed": tensors["a"].transpose(0, 2),
        "part": tensors["b"][1:, ::2],
        "one": torch.tensor(2.5),
    }
    torch.save(
        state | {f"model.layers.0.attn.{name}.weight": each for name, each in tensors.items()}, folder / "m.pt"
    )
    from loihi_mmfree.checkpoint.readers import TorchFile

    expected = torch.load(folder / "m.pt", weights_only=True)
    file = TorchFile(folder / "m.pt")
    assert file.catalog().keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(file.read(name), tensor)
        assert torch.equal(file.read(name, rows=2), tensor[:2] if tensor.dim() else tensor)
