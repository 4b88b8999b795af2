"""What the import of Brevitas brings in, and what it leaves to those who ask for more of it."""

from __future__ import annotations

import subprocess
import sys

IMPORTED = """
import sys
from loihi_mmfree.quantize.libraries import import_libraries
import_libraries()
heavy = ("scipy.linalg", "sympy", "setuptools", "torch._dynamo", "torch.utils.cpp_extension", "torchvision")
assert [name for name in heavy if name in sys.modules] == []
"""


def test_what_calibration_does_not_need_is_not_imported_and_there_for_who_asks() -> None:
    script = (
        IMPORTED
        + """
import brevitas, torch
from brevitas.nn import hadamard_classifier
assert hadamard_classifier.hadamard(2).tolist() == [[1, 1], [1, -1]]
assert brevitas.cpp_extension.load.__module__ == "torch.utils.cpp_extension"
assert torch._dynamo.is_compiling.__module__ == "torch._dynamo.external_utils"
import scipy.linalg
assert scipy.linalg.__file__
"""
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_what_others_have_imported_before_stays() -> None:
    script = "import scipy.linalg\nbefore = scipy.linalg\n" + IMPORTED.replace('"scipy.linalg", ', "")
    script += "import scipy.linalg\nassert scipy.linalg is before\n"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
