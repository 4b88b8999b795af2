"""Both programs of a core as text: address, word, what it does, and what of the network that is."""

from __future__ import annotations

from collections.abc import Iterator

from loihi_mmfree.fixedpoint.operations import OPERATIONS, Named
from loihi_mmfree.rtl.build import CoreImage
from loihi_mmfree.rtl.instructions import END, GROUP, Space, VectorInstruction
from loihi_mmfree.rtl.loading import instruction_words, product_words

_HEX_DIGITS = 20


def listing(image: CoreImage) -> str:
    """Return the vector program and the product program, a line for each instruction."""
    return "\n".join([*_vector_lines(image), "", *_product_lines(image)]) + "\n"


def _vector_lines(image: CoreImage) -> Iterator[str]:
    yield "vector program"
    words = instruction_words(image)
    for number, (each, word) in enumerate(zip(image.instructions, words, strict=True)):
        yield f"{number:6}  {word:0{_HEX_DIGITS}x}  {_text(each):44}{each.note}".rstrip()


def _text(each: VectorInstruction) -> str:
    """An instruction with its registers and its place."""
    if each.operation in (END, GROUP):
        return each.operation
    operation = OPERATIONS[each.operation]
    target = "" if operation.result is None else f"r{each.target} <- "
    read = [f"r{register}" for register in each.sources]
    if operation.named is Named.INPUT or operation.named is Named.OUTPUT:
        read.append(f"{Space(each.space).name.lower()}[{each.immediate}]")
    elif operation.named is not None:
        read.append(f"{operation.named.value}[{each.immediate}]")
    elif operation.immediate is not None:
        read.append(f"#{each.immediate}")
    return f"{each.operation} {target}{', '.join(read)}{'; last' if each.last else ''}"


def _product_lines(image: CoreImage) -> Iterator[str]:
    yield "product program"
    for number, (each, word) in enumerate(zip(image.products, product_words(image), strict=True)):
        to = "logits" if each.logits else f"accumulator[{each.target}]"
        what = (
            f"{each.rows} rows of {each.words} words, activation[{each.source}] -> {to}, after group {each.after}"
        )
        yield f"{number:6}  {word:0{_HEX_DIGITS + 3}x}  {what:72}{each.note}"
