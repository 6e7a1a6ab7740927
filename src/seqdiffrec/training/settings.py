"""Settings of training."""

from typing import Annotated, Literal

from pydantic import Field

from seqdiffrec.models.settings import Settings


class TrainingConfig(Settings):
    """How a model is trained; the defaults are the paper's (Section 5.1.4).

    epochs, patience: stop after so many epochs, or after ``patience`` epochs without a better validation NDCG@10. Those
        in which a model only pre-trains (MFGAN) use up no patience.
    batch_size: targets a step, also where one sequence brings many.
    learning_rate: of Adam, at its highest.
    adam_beta2: the share of itself that Adam's mean of squared gradients keeps a step.
    warmup_epochs, decay: the learning rate rises over so many epochs (a fraction will do), then stays, or falls to 0 at
        the last of ``epochs``.
    weight_decay: decoupled from the gradient (AdamW); not on biases and norms.
    average_rate: validate and keep an exponential moving average of the weights, which keeps this share of itself a
        step; 0 for the weights as they are.
    prefixes: every prefix of a sequence is an example; otherwise only its last item is a target.
    max_gradient_norm: clip the gradient to this norm; none by default.
    validation_seeds: noise draws averaged when the validation set is ranked after each epoch.
    precision: of matrix products; ``auto`` takes bfloat16 where the machine multiplies it faster.
    device: ``auto`` takes a GPU where there is one.
    checkpoint_minutes: minutes between checkpoints within an epoch; one is written after every epoch anyway.
    seed: initial weights, order, noise and dropout derive from it.
    tracker: what is told each epoch's figures besides the run's own file (docs/settings.md, "Trackers").
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    patience: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    warmup_epochs: Annotated[float, Field(ge=0, le=1000)] = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    average_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    prefixes: bool = True
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    validation_seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    tracker: Literal["tensorboard", "mlflow", "wandb", "trackio"] | None = None
