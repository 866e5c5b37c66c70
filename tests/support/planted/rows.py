"""The table: every planted bug, in the order in which it would be stopped."""

from __future__ import annotations

import torch
from dpigu.dpcore import Phase, Pipeline, Plan, Released
from dpigu.mechanisms import Flat, Gaussian, Unclipped
from dpigu.trainers import Data
from dpigu.trainers.data.overlap import refuse_shared
from dpigu.trainers.engines.checked import refuse_batch_statistics
from torch import nn

from tests.audits.replay import test_replay as replays
from tests.mutants import broken_boundary, broken_public, broken_records, broken_rows
from tests.support.laws.data import points
from tests.support.planted import kernels as wrong
from tests.support.planted import runs, stages
from tests.support.planted.bug import (
    Bug,
    against_law,
    broken_stage,
    guarded,
    invisible,
    kernel,
    noise,
    refused,
    replayed,
    sampler,
    told_by_canaries,
    unseen_stage,
)
from tests.support.zoo import kernels as zoo
from tests.support.zoo.strange_stages import Warm

AT, FAR, ALONG = "a row at the bound", "a row far beyond the bound", "a row along a batch"
AGAINST, NAN = "a row against a batch", "a row with NaN"
SPIKE = "a row on one coordinate"
RATIO, RELEASED, STATES = "likelihood ratio", "released vectors", "states"
LEAST, REPEAT, SPREAD = (
    "the step with the least noise",
    "draws that repeat another",
    "the spread of all draws",
)
ALIKE, COORDINATE = "the steps that are most alike", "the coordinate with the least noise"
SHAPE = "the shape of the draws"
QUIETER = zoo.plan(steps=2, sigma=2 / 3)


def _same_splits() -> None:
    data = points()
    refuse_shared(Data(data.spec, data.train, data.train), None)


def _phases(name: str) -> Plan:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    return Plan((Phase(name, pipeline, 1), Phase(name, pipeline, 1)))


BUGS: tuple[Bug, ...] = (
    refused(
        "noise without a clip",
        lambda: Pipeline(clipper=Unclipped(), noiser=Gaussian()),
        "noise cannot be calibrated",
    ),
    refused(
        "a stage that can keep something",
        lambda: Pipeline(clipper=Flat(bound=1.0), noiser=Warm()),  # type: ignore[arg-type]
        "a stage must be a frozen dataclass",
    ),
    refused(
        "a forged release",
        lambda: Released(torch.zeros(1), torch.zeros(1)),
        "only the kernel can make a Released value",
    ),
    refused(
        "batch normalisation",
        lambda: refuse_batch_statistics(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))),
        "statistics of other records",
    ),
    refused("evaluation on the training split, published", _same_splits, "shares records"),
    refused("two phases under one name in the ledger", lambda: _phases("main"), "name"),
    refused("a bound of 0", lambda: Flat(bound=0.0), "bound"),
    guarded("a clipper's factor of 10³⁰⁰", 1e300),
    guarded("a clipper's factor that is no number", float("nan")),
    guarded("a clipper's factor of −5", -5.0),
    against_law("a divisor from the records that are present", "law_the_divisor_is_public"),
    against_law("noise without the rounding margin", "law_scale"),
    against_law("sums in float32", "law_microbatches_and_order"),
    against_law("0 · NaN: weights of zero applied by a product", "law_sensitivity"),
    against_law(
        "frozen coordinates that spend the clipping budget",
        "law_frozen_coordinates_spend_no_budget",
    ),
    against_law("an event that forgets the queries", "law_a_query_has_its_own_price"),
    against_law("an event of another sampling rate", "law_charged_is_what_ran"),
    against_law("an event of one step less", "law_charged_is_what_ran"),
    against_law("a step the ledger missed", "law_the_ledger_is_ahead"),
    against_law("a step that runs again and is not charged again", "law_the_ledger_is_ahead"),
    against_law("an accountant that halves", "law_rdp_is_above_pld"),
    against_law("batches from the generator that a user seeds", "law_the_sampler_has_no_seed"),
    against_law("an optimizer whose momentum moves frozen weights", "law_frozen_weights_stay"),
    against_law(
        "an engine that mixes records, as batch normalisation does",
        "law_engine_keeps_records_apart",
    ),
    broken_stage("a bound adapted from norms without noise", broken_boundary.QuantileOfRawNorms),
    broken_stage("a top-k mask from the raw gradient", broken_rows.SupportFromRawGradients),
    broken_stage("denoising with the truth", broken_rows.DenoisesWithTheTruth),
    broken_stage("rows centred by a running mean of all", broken_rows.CentresByARunningMean),
    broken_stage("a clipper that counts the batch", broken_boundary.ClipsTheMean),
    broken_stage("views counted wrong", broken_records.OneView),
    broken_stage("a noiser with less noise for the kernel", broken_boundary.LessNoiseForTheKernel),
    broken_stage("a post that says no noise is left", broken_public.ClaimsToDenoise),
    unseen_stage("rows whitened by their batch", "row", stages.WhitensTheBatch, "row-is-local"),
    unseen_stage(
        "rows masked by the sign of the batch's sum", "row", stages.MasksByTheBatch, "row-is-local"
    ),
    unseen_stage(
        "a tail of rows that is the batch's mean", "row", stages.TailOfTheBatch, "row-is-local"
    ),
    unseen_stage(
        "a tail that the declared map leaves out", "row", stages.TailLeftOut, "affine-is-row"
    ),
    noise("noise divided by the batch twice", zoo.DividedTwice, SPREAD),
    noise("noise of σC/B for each record, then averaged", zoo.PerRecordAveraged, SPREAD),
    noise("noise 15% too small", zoo.TooLittle, SPREAD),
    noise("a tenth of the noise in phases of twenty steps", zoo.ShortPhase, SPREAD),
    noise("no noise on every second step", wrong.QuietSecondStep, LEAST),
    noise("a tenth of the noise on the last step", wrong.QuietLastStep, LEAST, steps=100),
    noise("noise that decays, charged as if it stayed", wrong.SinkingNoise, SPREAD, steps=100),
    noise("no noise on a tail beyond 1,024 coordinates", zoo.TailWithoutNoise, COORDINATE),
    noise("no noise on some coordinates", wrong.VectorsNoise, COORDINATE),
    noise("noise reused in every step", zoo.ReusedNoise, REPEAT),
    noise("noise reused in each second step", wrong.SecondStepAgain, ALIKE),
    noise("noise of five steps before, again", wrong.AgainAfterFive, ALIKE),
    noise("each second step's noise is the last one's, negated", wrong.Antithetic, ALIKE),
    noise("half of the variance is the last step's", wrong.CarriedOver, ALIKE),
    noise("one draw for two coordinates", wrong.OneDrawForTwo, "neighbouring coordinates"),
    noise("one draw for all coordinates", wrong.OneDrawForAll, REPEAT),
    noise("noise without its mean", wrong.CentredNoise, "the spread of the mean"),
    noise("Laplace noise charged as Gaussian", zoo.LaplaceNoise, SHAPE),
    noise("uniform noise charged as Gaussian", wrong.UniformNoise, SHAPE),
    noise("Student noise charged as Gaussian", wrong.StudentNoise, SHAPE),
    noise("noise without its tails", zoo.ClampedNoise, "draws beyond 3 deviations"),
    noise("noise of 12 bits", zoo.FewBits, REPEAT),
    noise("noise in float16", zoo.HalfPrecisionNoise, REPEAT),
    noise("noise in bfloat16", zoo.BrainPrecisionNoise, REPEAT),
    noise("noise in float32, off the grid", zoo.SinglePrecisionNoise, "draws off the grid"),
    kernel("missing clip", zoo.MissingClip, FAR, RATIO),
    kernel("clip of the mean", zoo.ClipsTheMean, AGAINST, RELEASED),
    kernel("clip after the sum", wrong.ClipsTheSum, FAR, RATIO),
    kernel("clip of each microbatch", wrong.ClipsMicrobatches, AGAINST, RATIO, plan=QUIETER),
    kernel("clip of each coordinate", wrong.PerCoordinateClip, FAR, RATIO),
    kernel("augmented views summed and not averaged", wrong.ViewsSummed, FAR, RATIO),
    kernel("a row with NaN reaches the sum", zoo.NaNReachesTheSum, NAN, RELEASED),
    kernel("divisor of the realised batch", zoo.RealisedDivisor, ALONG, RELEASED),
    kernel("noise for each microbatch that came", zoo.PerMicrobatch, AT, RELEASED),
    kernel("noise on the coordinates that records kept", zoo.SupportOfTheRecords, AT, RELEASED),
    kernel("a thousandth of the mean added after the noise", wrong.MeanAddedBack, AT, RELEASED),
    kernel("the released top-k chosen by the raw sum", wrong.TopKOfRaw, SPIKE, RELEASED),
    kernel("the gradient rescaled to its raw length", wrong.RescaledByRaw, AT, RELEASED),
    kernel("signs put right after the noise", wrong.SignsOfRaw, AT, RELEASED),
    kernel("a variance that knows the raw length", wrong.VarianceOfRaw, AT, RELEASED),
    kernel("noise by the sum's length and not the bound", wrong.NoiseByTheSum, AT, RELEASED),
    kernel("a step refused where the sum is short", wrong.StopsWhenFlat, AT, RELEASED),
    kernel(
        "statistics from un-noised gradients",
        zoo.Kernel,
        ALONG,
        STATES,
        plan=zoo.UN_NOISED_STATISTICS,
    ),
    kernel("scores from un-noised gradients", zoo.Kernel, ALONG, STATES, plan=zoo.UN_NOISED_SCORES),
    sampler("shuffled epochs", "records in two batches in a row"),
    sampler("batches of a fixed size", "batches of 28 to 36 records"),
    sampler("drawn with replacement", "batches with a record twice"),
    sampler("a record that does not exist", "batches with a record twice"),
    sampler("records in blocks", "pairs of neighbouring records"),
    sampler("some records twice as often", "inclusions of the record that stands out most"),
    sampler("a rate 4% too high", "inclusions in all"),
    sampler("batches cut at the expected size", "batches of 28 to 36 records"),
    sampler("the same batch again", "records in two batches in a row"),
    sampler("an earlier batch now and then", "records that the two batches most alike share"),
    replayed(
        "momentum fed by the un-noised gradient",
        "checkpoint",
        replays.trained,
        replays.few,
        replays.momentum_from_the_raw_gradient,
    ),
    replayed(
        "the learning rate by its norm",
        "checkpoint",
        replays.trained,
        replays.few,
        replays.learning_rate_from_the_raw_norm,
    ),
    replayed(
        "weight decay by its norm",
        "checkpoint",
        replays.trained,
        replays.few,
        runs.decay_by_the_raw_gradient,
    ),
    replayed(
        "the number of records in the summary",
        "summary",
        replays.trained,
        replays.few,
        replays.the_number_of_records_in_the_summary,
    ),
    replayed(
        "the loss on training records among the metrics",
        "metrics",
        replays.trained,
        replays.few,
        replays.training_accuracy_among_the_metrics,
    ),
    replayed(
        "inputs normalised by un-noised statistics",
        "the model",
        runs.normalised_by_its_own_data,
        replays.few,
    ),
    replayed(
        "a bias that begins at the class counts",
        "checkpoint",
        runs.begins_at_the_class_counts,
        replays.few,
    ),
    replayed(
        "stopping when the training records say so",
        "the draws of noise",
        runs.stops_when_the_data_say,
        replays.few,
    ),
    replayed(
        "the weights that fit the training records best",
        "the summary",
        runs.keeps_the_weights_that_fit_best,
        replays.few,
    ),
    told_by_canaries(
        "no noise in the last tenth of a training elsewhere", "no noise in the last tenth"
    ),
    told_by_canaries("85% of the noise in a training elsewhere", "85% of the noise"),
    told_by_canaries(
        "no noise on a tenth of a model elsewhere", "no noise on a tenth of the coordinates"
    ),
    invisible(
        "a noise key that somebody else knows",
        "what is published has the right law; only who holds the key can subtract the noise. No "
        "key is ever kept (`law_never_replayed`).",
    ),
    invisible(
        "hyperparameters tuned on the records, uncharged",
        "the run itself is honest; the choice was made before it. Declared; `dpigu tune` charges.",
    ),
    invisible(
        "time and memory that follow a record",
        "neither is published; the size of a batch has the same law for every data set.",
    ),
    invisible(
        "code that acts on one value that no audit tries",
        "every audit looks at finitely many inputs. The kernel's laws hold for all.",
    ),
    invisible(
        "a record of one person under many names",
        "the claim is for a record; units are declared (`--unit`).",
    ),
)
