"""Where tensors live, and in which precision matrix products run there."""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, cast

import torch

from seqdiffrec.models.settings import SettingError

log = logging.getLogger("seqdiffrec")

Precision = Literal["float32", "bfloat16"]


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU where there is one. Raises SettingError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise SettingError(f"training.device is {name!r}, but torch finds no such GPU; set it to auto or cpu")
    return torch.device(name)


def device_to_answer_on(name: str) -> torch.device:
    """Where a trained model answers: as `pick_device`, but on the CPU, which is said once, without that GPU."""
    try:
        return pick_device(name)
    except SettingError:
        _tell_absent(name)
        return torch.device("cpu")


@cache
def _tell_absent(name: str) -> None:
    log.warning("the run was trained on %s, and torch finds no such GPU here: the model answers on the CPU", name)


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16: as told, or with ``auto`` where the machine has instructions for it."""
    return has_bfloat16(device) if precision == "auto" else precision == "bfloat16"


@contextmanager
def rank_in(precision: Precision, device: torch.device) -> Generator[None]:
    """Inside, matrix products of float32 run in this precision: bfloat16 rounds their factors, and nothing else.

    Sums and what comes out are float32 in both, so scores do not tie more than they do (docs/adr/0020). It holds for
    the whole process. Raises SettingError where bfloat16 is of no use (`rounds_factors`).
    """
    if precision == "float32":
        yield
        return
    if not rounds_factors(device):
        why = "this processor has none" if device.type == "cpu" else f"the model is on {device}"
        raise SettingError(f"ranking in bfloat16 is for a CPU with AMX: {why}; leave the precision at float32")
    matmul = cast(Any, torch.backends.mkldnn).matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def rounds_factors(device: torch.device) -> bool:
    """Whether oneDNN multiplies float32 as bfloat16 when it may: on a CPU with AMX, not with AVX512-BF16 alone."""
    return device.type == "cpu" and has_amx()


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16."""
    cpu: Mapping[str, Any] = torch.cpu.get_capabilities()
    return bool(cpu.get("amx_bf16"))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the machine has instructions for bfloat16.

    A CPU without AVX512-BF16 or AMX emulates it at a hundredth of the speed of float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu: Mapping[str, Any] = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16")) or has_amx()
