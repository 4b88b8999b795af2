"""Published figures as the source prints them, and which of them the model is fitted to."""

from __future__ import annotations

import pytest

from loihi_mmfree.cost.fit import Target, published_target
from loihi_mmfree.cost.published import PublishedSystem, load_published


def system(hardware: str, model: str) -> PublishedSystem:
    (found,) = (s for s in load_published().systems if s.hardware == hardware and s.model == model)
    return found


def test_every_length_has_the_figure_that_the_source_prints_for_it() -> None:
    matmul_free, transformer = system("H100", "MatMul-free 370M"), system("H100", "Transformer++ 370M")
    assert matmul_free.generate_tokens_per_s == (13.4, 13.3, 13.5, 13.2)
    assert matmul_free.generate_millijoules == (10100, 10100, 10000, 9900)
    assert transformer.generate_tokens_per_s == (22.4, 22.9, 21.7, 21.3)
    assert transformer.generate_millijoules == (5500, 5600, 6200, 6800)


def test_the_fit_is_to_the_dense_network_not_to_the_projection_of_a_sparse_one() -> None:
    assert system("Loihi 2, 24 chips", "MatMul-free 370M, trained to be sparse").generate_millijoules[0] == 75
    assert published_target() == Target(6632, 3.7, 405, 41.5)


def test_accelerators_have_the_figures_that_their_authors_report() -> None:
    # ternip's project page (Alveo U250), and the abstract of arXiv:2502.16473.
    figures = {
        (each.hardware, each.model): (each.generate_tokens_per_s, each.generate_millijoules, each.lanes)
        for each in load_published().accelerators
    }
    assert figures == {
        ("FPGA Alveo U250, ternip", "MatMul-free 370M"): (3711.8, 14.37, 48),
        ("FPGA Alveo U250, ternip", "MatMul-free 1.3B"): (969.9, 54.2, 41),
        ("FPGA Alveo U250, ternip", "MatMul-free 2.7B"): (411.4, 126.7, 29),
        ("FPGA, TerEffic", "ternary 370M"): (16300, pytest.approx(1e3 / 455, abs=0.05), None),
        ("FPGA with HBM, TerEffic", "ternary 2.7B"): (727, pytest.approx(1e3 * 46 / 727, abs=0.05), None),
    }


def test_power_that_is_reported_agrees_with_throughput_and_energy() -> None:
    (each,) = (a for a in load_published().accelerators if a.lanes == 48)
    assert "53.4 W" in each.leaves_out
    assert each.generate_tokens_per_s * each.generate_millijoules / 1e3 == pytest.approx(53.4, abs=0.1)


def test_only_figures_measured_by_their_authors_say_so() -> None:
    measured = {each.hardware for each in load_published().systems if each.kind.startswith("measured")}
    assert measured == {"Jetson Orin Nano", "H100"}
