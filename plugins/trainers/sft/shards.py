"""What the recipe says about sharding, in the words of transformers: FSDP and DeepSpeed. Light: asked before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import Problem
from core.check.names import did_you_mean

if TYPE_CHECKING:
    from core import Recipe
    from core.types import KeyPath

# strategy as version 1 names it, in the order of its numbers -> whether weights are given back after the forward pass,
# which is all that version 2 knows
STRATEGIES: Mapping[str, bool | None] = {
    "FULL_SHARD": True,
    "SHARD_GRAD_OP": False,
    "NO_SHARD": None,
    "HYBRID_SHARD": True,
    "HYBRID_SHARD_ZERO2": False,
}
# in groups of processes, with a copy of the model in each
HYBRID = ("HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
# what else an entry of `fsdp` may be
OPTIONS = ("auto_wrap", "offload")
# the top-level names of its configuration
_DEEPSPEED = """
activation_checkpointing aio amp autotuning bf16 checkpoint comet comms_logger communication_data_type compile
compression_training csv_monitor curriculum_learning data_efficiency data_types dataloader_drop_last
disable_allgather dump_state eigenvalue elasticity flops_profiler fp16 fp32_allreduce
gradient_accumulation_steps gradient_clipping gradient_predivide_factor graph_harvesting hybrid_engine
memory_breakdown nebula optimizer pipeline prescale_gradients progressive_layer_drop quantize_training scheduler
seq_parallel_communication_data_type sequence_parallel_size sparse_attention sparse_gradients steps_per_print
tensor_parallel tensorboard timers torch_autocast train_batch_size train_micro_batch_size_per_gpu
use_data_before_expert_parallel_parameters use_node_local_storage wall_clock_breakdown wandb weight_quantization
zenflow zero_allow_untested_optimizer zero_force_ds_cpu_optimizer zero_optimization
"""
DEEPSPEED_NAMES = frozenset(_DEEPSPEED.split())
# those of its section zero_optimization
_ZERO = """
stage contiguous_gradients reduce_scatter reduce_bucket_size use_multi_rank_bucket_allreduce
allgather_partitions allgather_bucket_size overlap_comm load_from_fp32_weights elastic_checkpoint offload_param
offload_optimizer sub_group_size cpu_offload_param cpu_offload_use_pin_memory cpu_offload
stage3_prefetch_bucket_size stage3_param_persistence_threshold stage3_model_persistence_threshold
stage3_max_live_parameters stage3_max_reuse_distance stage3_gather_16bit_weights_on_model_save
stage3_gather_fp16_weights_on_model_save stage3_module_granularity_threshold
stage3_use_all_reduce_for_fetch_params ignore_unused_parameters legacy_stage1 round_robin_gradients
zero_hpz_partition_size zero_quantized_weights zero_quantized_nontrainable_weights zero_quantized_gradients
zeropp_loco_param mics_shard_size mics_hierarchical_params_gather memory_efficient_linear
pipeline_loading_checkpoint override_module_apply log_trace_cache_warnings
"""
ZERO_NAMES = frozenset(_ZERO.split())


def asks_for_fsdp(recipe: Recipe) -> bool:
    """Whether the recipe wants the model sharded by FSDP; `fsdp: false` switches off what fsdp_config sets."""
    return recipe["fsdp"] is not False and bool(recipe["fsdp"] or recipe["fsdp_config"])


def fsdp_settings(recipe: Recipe) -> dict[str, Any]:
    """axolotl's names (an `fsdp_` before each, `offload_params`, a strategy) as those of transformers."""
    settings = {name.removeprefix("fsdp_"): value for name, value in (recipe["fsdp_config"] or {}).items()}
    if "offload_params" in settings:
        settings["cpu_offload"] = settings.pop("offload_params")
    if "offload" in _listed(recipe):
        settings.setdefault("cpu_offload", True)
    if recipe["fsdp_version"]:
        settings["version"] = recipe["fsdp_version"]
    _, strategy = _strategy(recipe)
    settings.pop("sharding_strategy", None)
    if settings.get("version") == 1:
        # version 1 takes the name of the strategy where version 2 takes a switch
        given = settings.get("reshard_after_forward")
        named = strategy or (None if given is None else "FULL_SHARD" if given else "SHARD_GRAD_OP")
        if named:
            settings["reshard_after_forward"] = named.lower()
    elif strategy is not None and STRATEGIES.get(strategy) is not None:
        settings.setdefault("reshard_after_forward", STRATEGIES[strategy])
    return settings


def problems(recipe: Recipe) -> Iterator[Problem]:
    """What is wrong with the keys of FSDP and the names in a DeepSpeed configuration."""
    if isinstance(recipe["deepspeed"], Mapping):
        yield from _names(recipe["deepspeed"], ("deepspeed",), DEEPSPEED_NAMES)
        yield from _names(recipe["deepspeed"].get("zero_optimization"), ("deepspeed", "zero_optimization"), ZERO_NAMES)
    if asks_for_fsdp(recipe):
        yield from _options(recipe)
        yield from _strategies(recipe)


def _names(settings: Any, place: KeyPath, known: frozenset[str]) -> Iterator[Problem]:
    for name in settings if isinstance(settings, Mapping) else ():
        if name not in known:
            help = did_you_mean(name, known) or "it is handed on as it is; check the spelling"
            message = f"{name!r} is no setting of {'.'.join(map(str, place))!r} that is known here"
            yield Problem(message, key=(*place, name), severity="warning", help=help)


def _options(recipe: Recipe) -> Iterator[Problem]:
    known = [*map(str.lower, STRATEGIES), *OPTIONS]
    for index, entry in enumerate(_listed(recipe)):
        if entry not in known:
            key: KeyPath = ("fsdp", index) if isinstance(recipe["fsdp"], list) else ("fsdp",)
            help = did_you_mean(entry, known) or f"it can be: {', '.join(known)}"
            yield Problem(f"{entry!r} is no option of fsdp", key=key, at="value", help=help)


def _strategies(recipe: Recipe) -> Iterator[Problem]:
    key, strategy = _strategy(recipe)
    settings = fsdp_settings(recipe)
    if strategy is None or settings.get("version") == 1:
        return
    if strategy not in STRATEGIES:
        help = did_you_mean(strategy, STRATEGIES) or f"it can be: {', '.join(STRATEGIES)}"
        yield Problem(f"{strategy!r} is no sharding strategy", key=key, at="value", help=help)
    elif strategy == "NO_SHARD":
        help = "take fsdp and fsdp_config out: every process then holds the whole model"
        yield Problem("NO_SHARD shards nothing, which fsdp version 2 cannot do", key=key, at="value", help=help)
    elif strategy in HYBRID:
        plain = "FULL_SHARD" if STRATEGIES[strategy] else "SHARD_GRAD_OP"
        message = f"{strategy} shards over all processes here, as {plain} does: fsdp version 2 knows no groups"
        help = f"write {plain}; what is learnt is the same"
        yield Problem(message, key=key, at="value", severity="warning", help=help)
    elif settings["reshard_after_forward"] is not STRATEGIES[strategy]:
        given = str(settings["reshard_after_forward"]).lower()
        message = f"{strategy} and reshard_after_forward: {given} say opposite things"
        yield Problem(message, key=key, at="value", help="keep one of them")


def _strategy(recipe: Recipe) -> tuple[KeyPath, str | None]:
    """The sharding strategy that the recipe names, and where; the settings come before the list."""
    for name in ("sharding_strategy", "fsdp_sharding_strategy"):
        if value := (recipe["fsdp_config"] or {}).get(name):
            numbered = {str(number): strategy for number, strategy in enumerate(STRATEGIES, start=1)}
            return ("fsdp_config", name), numbered.get(str(value), str(value).upper())
    for index, entry in enumerate(_listed(recipe)):
        if entry.upper() in STRATEGIES:
            return (("fsdp", index) if isinstance(recipe["fsdp"], list) else ("fsdp",)), entry.upper()
    return (), None


def _listed(recipe: Recipe) -> list[str]:
    given = recipe["fsdp"]
    return given.split() if isinstance(given, str) else list(given) if isinstance(given, list) else []
