"""DiffRec: sequential recommendation with a diffusion over the target item (arXiv 2304.04541)."""

from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.diffusion import (
    GaussianDiffusion,
    ImportanceStepSampler,
    ScheduleName,
    UniformStepSampler,
    Variance,
    make_alpha_bar,
    sample_ancestral,
    sample_ddim,
    sample_direct,
)
from seqdiffrec.losses import supervised_contrastive
from seqdiffrec.models.base import Loss, ModelConfig
from seqdiffrec.models.denoiser import BidirectionalDenoiser, Conditioned, SharedHistoryDenoiser
from seqdiffrec.models.encoder import EncoderConfig, initialize
from seqdiffrec.models.item_table import ItemTable, ItemTableConfig, TableModel


class DiffRecConfig(EncoderConfig, ItemTableConfig):
    """Settings of DiffRec. The defaults are the paper's where it speaks; docs/settings.md says where it does not.

    attention: ``bidirectional`` is the printed pattern, ``shared_history`` another model that trains faster.
    positions: count them from the first visible item, or back from the (last) target; ``pattern`` is from the target
        with bidirectional attention and from the start with a shared history.
    target_input: what stands at the target's place: its noised representation; ``pure_noise``, that of step N whatever
        the target; or, with no diffusion at all, a learned vector (``mask``) or ``zeros``. All but the first are
        controls for what the diffusion adds.
    noise_std: standard deviation of the noise; the paper's is 1.
    noise_draws: steps and noises a target in one training step; more than one needs a shared history.
    mse_weighting: Eq. 18 as printed (``literal``, 1 / p_n) or as a mean over the steps (``normalised``, 1 / (N p_n)).
    mse_reduction: sum or mean of the squared error over the D dimensions.
    mse_stop_gradient: the squared error does not pull the clean h_0 towards the prediction (it still reaches the
        embedding through the noised one).
    noised_items: the last so many items are noised, the target included, or all (Section 5.3.4).
    contrastive_weight: of a contrastive term between predicted representations of the batch (not in the paper).
        contrastive_positives says which belong together: other ``draws`` of the same target (noise_draws above 1), or
        all whose ``targets`` are the same item. contrastive_temperature divides their cosines.
    history_skip: the causal state of the history's newest item is added to the gated prediction, so the denoiser only
        corrects what SASRec would say (not in the paper); needs a shared history.
    history_weight: of a second recommendation loss, on the history's own causal states, as SASRec has it (not in the
        paper); above 0 needs a shared history.
    num_seeds, inference_steps, sampler, eta, variance: inference. No seeds are zeros in place of noise. One step is
        Algorithm 3; more are Algorithm 2 (``ancestral``, reverse variance beta or beta_tilde) or DDIM with ``eta``.
        ``variance`` is also that of the way from noise to an item (`DiffRec.denoising`), which has steps of its own.
    """

    attention: Literal["bidirectional", "shared_history"] = "bidirectional"
    positions: Literal["pattern", "from_start", "from_target"] = "pattern"
    schedule: ScheduleName = "sqrt"
    num_steps: Annotated[int, Field(ge=1, le=10_000)] = 1000
    step_embedding: bool = True
    noised_items: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    target_input: Literal["noised", "pure_noise", "mask", "zeros"] = "noised"
    noise_std: Annotated[float, Field(gt=0, le=100)] = 1.0
    noise_draws: Annotated[int, Field(ge=1, le=100)] = 1
    step_sampling: Literal["importance", "uniform"] = "importance"
    mse_weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    mse_weighting: Literal["normalised", "literal"] = "normalised"
    mse_reduction: Literal["mean", "sum"] = "mean"
    mse_stop_gradient: bool = False
    contrastive_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    contrastive_positives: Literal["draws", "targets"] = "targets"
    contrastive_temperature: Annotated[float, Field(gt=0, le=100)] = 0.1
    history_skip: bool = False
    history_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    num_seeds: Annotated[int, Field(ge=0, le=1000)] = 10
    inference_steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    variance: Variance = "beta"

    @property
    def counts_from_target(self) -> bool:
        """Whether positions count back from the target."""
        if self.positions == "pattern":
            return self.attention == "bidirectional"
        return self.positions == "from_target"

    @model_validator(mode="after")
    def _check_together(self) -> "DiffRecConfig":
        if self.inference_steps > self.num_steps:
            raise ValueError(f"inference_steps is {self.inference_steps}, more than num_steps, {self.num_steps}")
        if self.sampler == "ddim" and self.inference_steps == 1:
            raise ValueError("sampler = ddim needs inference_steps above 1: one step, Algorithm 3, has no sampler")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta = {self.eta} needs sampler = ddim; {self.sampler} does not use it")
        if self.attention == "shared_history" and self.noised_items != 1:
            raise ValueError(
                "noised_items other than 1 needs attention = bidirectional: a shared history has to stay clean"
            )
        if self.attention == "bidirectional":
            for name in ("noise_draws", "history_skip", "history_weight", "filter_share", "linear_bias"):
                if getattr(self, name) != DiffRecConfig.model_fields[name].default:
                    raise ValueError(f"{name} = {getattr(self, name)} needs attention = shared_history")
        if self.contrastive_weight and self.contrastive_positives == "draws" and self.noise_draws == 1:
            raise ValueError("contrastive_positives = draws needs noise_draws above 1")
        if self.target_input != "noised" and (self.noised_items != 1 or self.inference_steps != 1):
            raise ValueError(f"target_input = {self.target_input} needs noised_items = 1 and inference_steps = 1")
        return self


class Denoised(NamedTuple):
    """A step of Algorithm 2, for R targets: what the denoiser was given there, and what it made of it."""

    step: int
    hn: Float[Tensor, "R D"]
    h0_hat: Float[Tensor, "R D"]


class DiffRec(TableModel):
    """The diffusion over the target's representation, its objective and its inference."""

    name: ClassVar[str] = "diffrec"
    config_class: ClassVar[type[ModelConfig]] = DiffRecConfig
    summary: ClassVar[str] = "diffusion over the next item's representation"
    paper: ClassVar[str | None] = "Du et al. 2023"
    cost: ClassVar[str] = "2; 1.3 with a shared history"

    def __init__(self, config: DiffRecConfig, num_items: int):
        super().__init__(config, num_items)
        self.config = config
        self.table = ItemTable(config, num_items, config.hidden_size)
        self.mask = nn.Parameter(torch.zeros(config.hidden_size)) if config.target_input == "mask" else None
        common = {"step_embedding": config.step_embedding, "from_target": config.counts_from_target}
        if config.attention == "shared_history":
            reads = {"skip": config.history_skip, "reads_history": config.history_weight > 0}
            self.denoiser = SharedHistoryDenoiser(config, config.num_steps, **common, **reads)
        else:
            self.denoiser = BidirectionalDenoiser(config, config.num_steps, **common, noised_items=config.noised_items)
        self.process = GaussianDiffusion(make_alpha_bar(config.schedule, config.num_steps))
        sampler = ImportanceStepSampler if config.step_sampling == "importance" else UniformStepSampler
        self.step_sampler = sampler(config.num_steps)
        initialize(self, config.weight_std, config.embedding_std)
        if self.mask is not None:
            nn.init.normal_(self.mask, std=config.embedding_std)

    @property
    def shares_history(self) -> bool:
        """With the printed attention each target is an example of its own."""
        return self.config.attention == "shared_history"

    @property
    def draws_noise(self) -> bool:
        """Not where a learned vector or zeros stand at the target's place."""
        return self.config.target_input not in ("mask", "zeros")

    @property
    def default_seeds(self) -> int:
        """As set by ``num_seeds``; the paper takes 10. 1 where nothing is drawn."""
        return self.config.num_seeds if self.draws_noise else 1

    def loss(self, batch: RaggedBatch) -> Loss:
        """Algorithm 1, lines 3 to 11, and line 15: one step and one noise draw for each target."""
        batch = batch if self.config.noise_draws == 1 else batch.repeat_targets(self.config.noise_draws)
        step, probability = self._sample_steps(len(batch.targets))
        conditioned = self.denoiser.condition(batch, self.table)
        h0 = conditioned.h0
        h0_hat = conditioned.denoise(self._corrupt(h0, step[conditioned.of_target]), step)
        predicted = h0_hat[conditioned.back == 0]
        recommendation = self.table.loss(predicted, batch).mean()
        squared_error = self._squared_error(h0, h0_hat, conditioned, len(step))
        if self.training and bool(squared_error.isfinite().all()):  # the loop stops at a loss that is not
            self.step_sampler.update(step, squared_error.detach())
        mse = (self._step_weight(probability) * squared_error).mean()
        parts = {"recommendation": recommendation, "mse": mse}
        total = recommendation + self.config.mse_weight * mse
        if self.config.history_weight and conditioned.read_history is not None:
            parts["history"] = self.table.loss(conditioned.read_history(), batch).mean()
            total = total + self.config.history_weight * parts["history"]
        if self.config.contrastive_weight:
            parts["contrastive"] = self._contrastive(predicted, batch)
            total = total + self.config.contrastive_weight * parts["contrastive"]
        return Loss(total, {"loss": total.item(), **{name: part.item() for name, part in parts.items()}})

    def _contrastive(self, predicted: Float[Tensor, "R D"], batch: RaggedBatch) -> Float[Tensor, ""]:
        labels, draws = batch.targets, self.config.noise_draws
        if self.config.contrastive_positives == "draws":
            labels = torch.arange(len(labels) // draws, device=labels.device).repeat(draws)
        return supervised_contrastive(predicted, labels, self.config.contrastive_temperature)

    def _sample_steps(self, count: int) -> tuple[Int64[Tensor, " R"], Float64[Tensor, " R"]]:
        """A step for each target, and its probability; without a diffusion all are N."""
        if self.config.target_input == "noised":
            return self.step_sampler.sample(count)
        device, last = self.item_counts.device, self.config.num_steps
        uniform = torch.full((count,), 1 / last, dtype=torch.float64, device=device)
        return torch.full((count,), last, device=device), uniform

    def _corrupt(self, h0: Float[Tensor, "P D"], step: Int64[Tensor, " P"]) -> Float[Tensor, "P D"]:
        """What the denoiser gets at the noised places: h_n of Eq. 7, or what stands in for it."""
        if self.mask is not None:
            return self.mask.expand_as(h0)
        if self.config.target_input == "zeros":
            return torch.zeros_like(h0)
        noise = torch.randn_like(h0) * self.config.noise_std
        return noise if self.config.target_input == "pure_noise" else self.process.add_noise(h0, step, noise)

    def _squared_error(self, h0: Tensor, h0_hat: Tensor, of: Conditioned, count: int) -> Float[Tensor, " R"]:
        """L_n of each target: ``||h_0 - f(h_n, n)||^2`` (Eq. 17), the mean over its noised places if there are more."""
        h0 = h0.detach() if self.config.mse_stop_gradient else h0
        error = (h0 - h0_hat).square()
        error = error.mean(-1) if self.config.mse_reduction == "mean" else error.sum(-1)
        if len(error) == count:
            return error
        places = torch.bincount(of.of_target, minlength=count)
        return error.new_zeros(count).index_add(0, of.of_target, error) / places

    def _step_weight(self, probability: Float64[Tensor, " R"]) -> Float32[Tensor, " R"]:
        """Eq. 18: ``1 / p_n``, or divided by N so that it is a mean over the steps instead of their sum."""
        literal = self.config.mse_weighting == "literal"
        return (1 / (probability if literal else probability * self.config.num_steps)).float()

    def represent(self, batch: RaggedBatch, num_seeds: int) -> Float[Tensor, "S R D"]:
        """Algorithm 3: the h_0 predicted from each seed's noise; with 0 seeds zeros stand in place of all noise."""
        conditioned = self.denoiser.condition(batch, self.table)
        draws = self._sample(conditioned, len(batch.targets), num_seeds)
        draws = draws.view(-1, len(conditioned.back), self.config.hidden_size)
        return draws[:, conditioned.back == 0]

    @property
    def has_diffusion(self) -> bool:
        """Whether there is noise to take away; the controls with a mask or zeros have none."""
        return self.config.target_input in ("noised", "pure_noise")

    def denoising(self, batch: RaggedBatch, seed: int, num_inference_steps: int) -> list[Denoised]:
        """Algorithm 2 for one seed's noise, looked at on its way: so many evenly spaced steps, from N downwards.

        Raises ValueError for a number of steps outside 1..N.
        """
        conditioned = self.denoiser.condition(batch, self.table)
        of_targets, places = conditioned.back == 0, int(conditioned.back.max()) + 1
        passed: list[Denoised] = []

        def noise(step: int) -> Tensor:
            drawn = noise_of_seed(seed, step, places, self.config.hidden_size).to(conditioned.back.device)
            return drawn[conditioned.back] * self.config.noise_std

        def denoise(hn: Tensor, step: int) -> Tensor:
            steps = torch.full((len(batch.targets),), step, device=hn.device)
            h0_hat = conditioned.denoise(hn, steps)
            passed.append(Denoised(step, hn[of_targets], h0_hat[of_targets]))
            return h0_hat

        variance = self.config.variance
        start = noise(START)
        sample_ancestral(
            denoise, self.process, start, num_inference_steps=num_inference_steps, variance=variance, noise=noise
        )
        return passed

    def _sample(self, conditioned: Conditioned, count: int, num_seeds: int) -> Float[Tensor, "SP D"]:
        """From pure noise at step N to the predicted h_0, of all seeds one after another; all in one call of f."""
        config, device = self.config, conditioned.back.device
        places = int(conditioned.back.max()) + 1

        def noise(step: int) -> Tensor:
            if num_seeds == 0:
                return torch.zeros((len(conditioned.back), config.hidden_size), device=device)
            seeds = [noise_of_seed(seed, step, places, config.hidden_size) for seed in range(num_seeds)]
            drawn = torch.stack(seeds).to(device)[:, conditioned.back]
            return drawn.flatten(0, 1) * config.noise_std

        def denoise(hn: Tensor, step: int) -> Tensor:
            return conditioned.denoise(hn, torch.full((count,), step, device=device))

        if self.mask is not None or config.target_input == "zeros":
            return denoise(self._corrupt(conditioned.h0, conditioned.of_target), config.num_steps)
        start, steps = noise(START), config.inference_steps
        if steps == 1:
            return sample_direct(denoise, self.process, start)
        if config.sampler == "ddim":
            return sample_ddim(denoise, self.process, start, num_inference_steps=steps, eta=config.eta, noise=noise)
        return sample_ancestral(
            denoise, self.process, start, num_inference_steps=steps, variance=config.variance, noise=noise
        )


# The number under which a seed's first draw is kept: the reverse step that leaves step N draws anew under N.
START = 0


@lru_cache(maxsize=4096)
def noise_of_seed(seed: int, step: int, places: int, size: int) -> Float32[Tensor, "places D"]:
    """The standard normal draw of a seed for a reverse step, a row for each place counted back from the target.

    It is the same for all histories, so that batch-mates and batch order change no result, and on all devices.
    """
    return torch.from_numpy(np.random.default_rng([seed, step]).standard_normal((places, size), dtype=np.float32))
