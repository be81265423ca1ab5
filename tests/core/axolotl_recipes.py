"""Recipes as axolotl's examples write them, drawn from how often they set each key, and to which values."""

from __future__ import annotations

import random
from collections.abc import Iterator

# key -> how often it is set in 250 examples, and the texts its value is written as
COMMON: dict[str, tuple[int, tuple[str, ...]]] = {
    "bf16": (249, ("auto", "auto", "true", "false")),
    "fp16": (35, ("", "false")),
    "tf32": (236, ("true", "false", "off", "")),
    "strict": (45, ("false", "no")),
    "model_type": (88, ("AutoModelForCausalLM", "LlamaForCausalLM", "Llama4ForConditionalGeneration")),
    "tokenizer_type": (82, ("AutoTokenizer", "LlamaTokenizer", "CodeLlamaTokenizer", "GPT2Tokenizer")),
    "tokenizer_config": (1, ("EleutherAI/gpt-neox-20b",)),
    "trust_remote_code": (37, ("true", "false", "")),
    "revision_of_model": (2, ("6299b5a",)),
    "dataset_prepared_path": (189, ("last_run_prepared", "", "./axolotl_dataset_cache")),
    "shuffle_merged_datasets": (4, ("true",)),
    "dataset_exact_deduplication": (2, ("true",)),
    "val_set_size": (221, ("0.0", "0.05", "0.1", "0", "0.01")),
    "output_dir": (250, ("./outputs/out", "./outputs/lora-out", "./outputs/qlora-out")),
    "hub_model_id": (1, ("<your-hub-model-id>", "team/model")),
    "sequence_len": (250, ("2048", "4096", "8192", "512")),
    "sample_packing": (226, ("true", "true", "false", "")),
    "eval_sample_packing": (47, ("false", "true")),
    "pad_to_sequence_len": (45, ("false", "true", "")),
    "group_by_length": (7, ("false", "true")),
    "train_on_inputs": (7, ("false", "true")),
    "remove_unused_columns": (34, ("false",)),
    "wandb_project": (205, ("", "", "", "dist_muon", "mpt-alpaca-7b")),
    "wandb_entity": (205, ("",)),
    "wandb_watch": (205, ("",)),
    "wandb_name": (207, ("", "adamw")),
    "wandb_log_model": (205, ("",)),
    "wandb_run_id": (2, ("",)),
    "use_wandb": (1, ("false",)),
    "use_tensorboard": (2, ("true",)),
    "use_swanlab": (3, ("true",)),
    "swanlab_project": (3, ("lora-profiling",)),
    "swanlab_experiment_name": (3, ("llama-3.2-1b-profiling-demo",)),
    "swanlab_description": (3, ("LoRA fine-tuning with performance profiling",)),
    "swanlab_mode": (3, ("cloud",)),
    "swanlab_log_completions": (3, ("false",)),
    "trackio_project_name": (6, ("",)),
    "trackio_run_name": (6, ("",)),
    "trackio_space_id": (6, ("",)),
    "use_otel_metrics": (1, ("true",)),
    "otel_metrics_host": (1, ("localhost",)),
    "otel_metrics_port": (1, ("8000",)),
    "micro_batch_size": (250, ("1", "2", "4", "16")),
    "eval_batch_size": (5, ("1", "8")),
    "num_epochs": (242, ("1", "4", "2", "3")),
    "max_steps": (25, ("10", "50", "1000")),
    "optimizer": (
        249,
        ("adamw_bnb_8bit", "adamw_torch_fused", "adamw_torch_8bit", "paged_adamw_8bit", "adamw_torch_4bit",
         "adamw_8bit", "paged_adamw_32bit", "adamw_torch", "muon"),
    ),
    "lr_scheduler": (245, ("cosine", "cosine", "constant_with_warmup", "constant", "linear", "")),
    "learning_rate": (250, ("0.0002", "2e-5", "1e-05", "5e-5", "3e-06", "0.0000002", "1e-4")),
    "cosine_min_lr_ratio": (4, ("1.0",)),
    "cosine_constant_lr_ratio": (4, ("0",)),
    "lr_quadratic_warmup": (2, ("true",)),
    "weight_decay": (208, ("0.0", "0.1", "0", "1e-06")),
    "adam_beta1": (2, ("0.9",)),
    "adam_beta2": (9, ("0.95",)),
    "adam_epsilon": (5, ("1e-05",)),
    "max_grad_norm": (7, ("1.0",)),
    "gradient_checkpointing": (218, ("true", "true", "false", "offload", "")),
    "gradient_checkpointing_kwargs": (71, ("\n  use_reentrant: false", "\n  use_reentrant: true")),
    "activation_offloading": (14, ("true", "legacy", "false")),
    "resume_from_checkpoint": (168, ("",)),
    "auto_resume_from_checkpoints": (2, ("true",)),
    "logging_steps": (244, ("1", "5", "10")),
    "save_total_limit": (7, ("2", "")),
    "save_only_model": (4, ("true",)),
    "save_safetensors": (1, ("true",)),
    "attn_implementation": (
        220,
        ("flash_attention_2", "flash_attention_2", "sdpa", "xformers", "flex_attention",
         "kernels-community/vllm-flash-attn3", "eager"),
    ),
    "flash_attention": (10, ("true", "")),
    "flash_attn_cross_entropy": (4, ("false",)),
    "flash_attn_rms_norm": (2, ("true",)),
    "flash_attn_fuse_mlp": (3, ("true",)),
    "flash_optimum": (3, ("", "true")),
    "flex_attn_compile_kwargs": (5, ("\n  dynamic: false\n  mode: max-autotune-no-cudagraphs",)),
    "fused_attn_kernel": (5, ("true",)),
    "gemma4_hybrid_attn_impl": (5, ("true",)),
    "loss_watchdog_threshold": (18, ("5.0", "15.0")),
    "loss_watchdog_patience": (18, ("3",)),
    "ddp": (1, ("false",)),
    "ddp_find_unused_parameters": (12, ("true",)),
    "local_rank": (2, ("",)),
    "device_map": (2, ("auto", '\n  "": 0')),
    "low_cpu_mem_usage": (2, ("true",)),
    "experimental_skip_move_to_device": (8, ("true",)),
    "accelerator_config": (2, ("\n  gradient_accumulation_kwargs:\n    sync_each_batch: true",)),
    "special_tokens": (178, ("", "\n  pad_token: <|end_of_text|>",
                             '\n  bos_token: "<s>"\n  eos_token: "</s>"\n  unk_token: "<unk>"')),
    "tokens": (6, ("", '\n  - "<|im_start|>"', '\n  pad_token: "<|padding|>"\n  eos_token: "<|endoftext|>"')),
    "eot_tokens": (32, ("\n  - <end_of_turn>", "\n  - <|im_end|>")),
    "resize_token_embeddings_to_32x": (5, ("true",)),
    "tokenizer_use_fast": (2, ("true",)),
    "tokenizer_legacy": (2, ("true",)),
    "tokenizer_use_mistral_common": (12, ("true",)),
    "seed": (16, ("42",)),
    "model_config": (6, ("\n  output_router_logits: true",)),
    "cls_model_config": (1, ("Gemma3TextConfig",)),
    "freeze_mm_modules": (2, ("true",)),
    "model_quantization_config": (5, ("Mxfp4Config",)),
    "model_quantization_config_kwargs": (5, ("\n  dequantize: true",)),
    "quantize_moe_experts": (17, ("true",)),
    "experts_implementation": (7, ("scattermoe", "grouped_mm")),
    "use_scattermoe": (9, ("true", "false")),
    "use_sonicmoe": (6, ("true", "false")),
    "use_kernels": (17, ("true", "false")),
    "use_onebitllms": (2, ("true",)),
    "use_dsv4_kernels": (1, ("true",)),
    "use_glm_dsa_kernels": (1, ("true",)),
    "dsv4_fp4_grouped_mode": (3, ("nvfp4",)),
    "nvfp4_merge_aware": (2, ("true",)),
    "llama4_linearized_experts": (7, ("true",)),
    "expert_parallel_size": (4, ("4", "8")),
    "expert_parallel_num_nvl_bytes": (1, ("4294967296",)),
    "expert_parallel_token_capacity": (1, ("1000000",)),
    "dp_shard_size": (7, ("2", "16")),
    "dp_replicate_size": (3, ("1", "2")),
    "tensor_parallel_size": (4, ("2", "1")),
    "context_parallel_size": (6, ("8", "2", "1")),
    "fp8": (1, ("true",)),
    "fp8_enable_fsdp_float8_all_gather": (1, ("true",)),
    "float16": (3, ("true",)),
    "bfloat16": (1, ("true",)),
    "gptq": (6, ("false", "true")),
    "qat": (9, ("\n  activation_dtype: int8\n  weight_dtype: int4\n  group_size: 32",
                "\n  activation_dtype: nvfp4\n  weight_dtype: nvfp4\n  group_size: 16\n"
                "  fake_quant_after_n_steps: 1000")),
    "torch_compile": (6, ("true", "false")),
    "torch_compile_mode": (1, ("max-autotune",)),
    "tiled_mlp": (2, ("true",)),
    "cut_cross_entropy": (3, ("true",)),
    "liger_rope": (25, ("true",)),
    "liger_rms_norm": (35, ("true",)),
    "liger_layer_norm": (32, ("true",)),
    "liger_glu_activation": (35, ("true",)),
    "liger_rms_norm_gated": (8, ("true",)),
    "liger_fused_linear_cross_entropy": (18, ("true",)),
    "do_causal_lm_eval": (1, ("true",)),
    "eval_causal_lm_metrics": (1, ('["perplexity"]',)),
    "eval_table_size": (2, ("", "2")),
    "eval_max_new_tokens": (1, ("32",)),
    "hf_use_auth_token": (2, ("true",)),
    "push_dataset_to_hub": (11, ("",)),
    "skip_prepare_dataset": (29, ("true",)),
    "streaming": (1, ("true",)),
    "streaming_multipack_buffer_size": (2, ("10000",)),
    "sample_packing_sequentially": (1, ("true",)),
    "curriculum_sampling": (1, ("true",)),
    "sample_packing_eff_est": (1, ("",)),
    "total_num_tokens": (1, ("",)),
    "min_sample_len": (2, ("200000",)),
    "use_ray": (1, ("true",)),
    "ray_num_workers": (1, ("4",)),
    # dead in axolotl too
    "eta_min": (4, ("7e-7",)),
    "adam_eps": (2, ("1e-09",)),
    "context_parapllel_size": (1, ("2",)),
    "torch_dtype": (1, ("bfloat16",)),
    "full_finetune": (1, ("true",)),
    "test_value": (1, ("true",)),
    "gptq_disable_exllama": (1, ("true",)),
    "gptq_groupsize": (14, ("",)),
    "gptq_model_v1": (14, ("",)),
    "base_model_ignore_patterns": (1, ("pytorch*",)),
    "debug": (4, ("", "true")),
    "sample_packing_seq_len_multiplier": (1, ("",)),
    "max_packed_sequence_len": (11, ("", "2048")),
    "torchdistx_path": (15, ("",)),
    "project_name": (2, ("",)),
    "branch": (1, ("",)),
}  # fmt: skip
LORA: dict[str, tuple[int, tuple[str, ...]]] = {
    "lora_r": (191, ("32", "16", "8")),
    "lora_alpha": (191, ("16", "32", "64")),
    "lora_target_linear": (104, ("true", "", "false")),
    "lora_target_modules": (
        60,
        ("\n  - gate_proj\n  - down_proj\n  - up_proj\n  - q_proj\n  - v_proj\n  - k_proj\n  - o_proj",
         "[q_proj, k_proj, v_proj, o_proj]"),
    ),
    "lora_model_dir": (122, ("",)),
    "lora_fan_in_fan_out": (6, ("false", "")),
    "lora_modules_to_save": (11, ("\n  - embed_tokens\n  - lm_head", "")),
    "lora_mlp_kernel": (25, ("true", "false")),
    "lora_qkv_kernel": (23, ("true", "false")),
    "lora_o_kernel": (23, ("true", "false")),
    "peft_use_rslora": (1, ("true",)),
    "bnb_config_kwargs": (3, ("\n  bnb_4bit_use_double_quant: true",)),
}  # fmt: skip
# keys that belong together, one of each group in a recipe at most
ALTERNATIVES: tuple[tuple[tuple[int, str], ...], ...] = (
    (
        (225, "warmup_ratio: 0.1"), (10, "warmup_steps: 10"), (6, "warmup_steps: 0.1"), (5, "warmup_steps: 100"),
        (4, ""),
    ),
    ((200, "saves_per_epoch: 1"), (19, "save_steps: 50"), (5, "save_strategy: steps\nsave_steps: 100"),
     (3, "saves_per_epoch: 1\nsave_strategy: steps"), (3, "save_strategy: no\nsave_steps:")),
    ((120, "evals_per_epoch: 4"), (60, "evals_per_epoch: 1"), (9, "evals_per_epoch: 0"), (23, "evals_per_epoch:"),
     (3, "eval_steps: 1000"), (3, "eval_steps:"), (3, "eval_strategy: epoch"), (3, "evaluation_strategy: no")),
    ((200, "gradient_accumulation_steps: 4"), (20, "gradient_accumulation_steps: 1"), (15, "batch_size: 16")),
    ((200, "early_stopping_patience:"), (8, "val_set_size: 0.05\nearly_stopping_patience: 3")),
    (
        (140, ""),
        (20, "deepspeed:\nfsdp:\nfsdp_config:"),
        (14, "deepspeed: deepspeed_configs/zero2.json"),
        (8, "deepspeed:\n  zero_optimization:\n    stage: 2"),
        (25, "fsdp:\n  - full_shard\n  - auto_wrap\nfsdp_config:\n  fsdp_limit_all_gathers: true\n"
         "  fsdp_sync_module_states: true\n  fsdp_offload_params: true\n  fsdp_use_orig_params: false\n"
         "  fsdp_cpu_ram_efficient_loading: true\n  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP\n"
         "  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer\n  fsdp_state_dict_type: FULL_STATE_DICT\n"
         "  fsdp_sharding_strategy: FULL_SHARD\n  fsdp_backward_prefetch: BACKWARD_PRE\n"
         "  fsdp_forward_prefetch: false\n  fsdp_activation_checkpointing: true"),
        (25, "fsdp_version: 2\nfsdp_config:\n  offload_params: false\n  state_dict_type: SHARDED_STATE_DICT\n"
         "  auto_wrap_policy: TRANSFORMER_BASED_WRAP\n  transformer_layer_cls_to_wrap: Qwen2DecoderLayer\n"
         "  reshard_after_forward: true\n  activation_checkpointing: true\n  cpu_ram_efficient_loading: true"),
        (15, "fsdp:\n  - auto_wrap\n  - full_shard\nfsdp_config:\n  fsdp_version: 2\n  sharding_strategy: FULL_SHARD\n"
         "  fsdp_reshard_after_forward: true"),
    ),
    (
        (120, ""),
        (54, "plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"),
        (24, "plugins:\n  - axolotl.integrations.liger.LigerPlugin"),
        (8, "plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n"
         "  - axolotl.integrations.kernels.KernelsPlugin"),
        (6, "plugins:\n  - axolotl.integrations.expert_parallel.ExpertParallelPlugin"),
        (3, "plugins:\n  - axolotl.integrations.swanlab.SwanLabPlugin"),
    ),
)  # fmt: skip
FINETOME = (
    "\n    split: train[:20%]\n    field_messages: conversations\n    message_property_mappings:\n"
    "      role: from\n      content: value"
)
# how often, the data sets, and the chat template that goes with them
DATA: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (60, "  - path: mhenrichsen/alpaca_2k_test\n    type: alpaca", ("",)),
    (30, "  - path: tatsu-lab/alpaca\n    type: alpaca\n    split: train[:10%]", ("",)),
    (40, f"  - path: mlabonne/FineTome-100k\n    type: chat_template{FINETOME}", (
        "llama3", "gemma3", "qwen3_5", "falcon_h1", "llama4", "qwen_25", "gemma4", "gemma3n", "qwen3", "gemma",
        "gemma4_unified", "chatml", "phi_3", "tokenizer_default", "cohere", "deepseek_v2", "jamba", "",
    )),
    (20, "  - path: fozziethebeat/alpaca_messages_2k_test\n    type: chat_template\n    field_messages: messages\n"
     "    message_field_role: from\n    message_field_content: value", ("chatml", "llama3")),
    (10, "  - path: fozziethebeat/alpaca_messages_2k_test\n    type: chat_template\n    roles:\n"
     "      user: [user]\n      assistant: [assistant]\n      system: [system]\n    drop_system_message: true",
     ("phi_3",)),
    (8, "  - path: HuggingFaceH4/Multilingual-Thinking\n    type: chat_template\n    field_thinking: thinking\n"
     "    template_thinking_key: thinking", ("",)),
    (7, f"  - path: mlabonne/FineTome-100k\n    type: chat_template.default{FINETOME}", ("tokenizer_default",)),
    (5, "  - path: org/one\n    type: alpaca\n  - path: org/two\n    type: 'alpaca:chat'", ("",)),
    (4, "  - path: vicgalle/alpaca-gpt4\n    type: alpaca:phi", ("",)),
    (4, "  - path: openaccess-ai-collective/jeopardy\n    type: jeopardy", ("",)),
    (4, "  - path: togethercomputer/RedPajama-Data-1T\n    type: completion\n    field: text\n    data_files:\n"
     "      - pretrain/rp_sub.jsonl.zst\n    ds_type: json", ("",)),
    (4, "  - path: QingyiSi/Alpaca-CoT\n    type: alpaca\n    data_files:\n"
     "      - formatted_cot_data/gsm8k_train.json\n    name: main\n    shards: 10", ("",)),
    (3, "  - path: org/tokens", ("",)),
    (3, "  - path: org/own\n    type:\n      field_instruction: q\n      field_output: a\n"
     "      format: 'Q: {instruction}'\n      no_input_format: 'Q: {instruction}'", ("",)),
)  # fmt: skip
ADAPTERS = ((89, "qlora"), (48, "lora"), (40, ""), (15, "null"))
MODELS = ("meta-llama/Llama-3.2-1B", "NousResearch/Llama-2-7b-hf", "Qwen/Qwen3-8B", "google/gemma-3-4b-it")


def draw_recipes(count: int) -> Iterator[tuple[str, set[str]]]:
    """`count` recipes as text, with the keys they set; together they set every key of the tables above."""
    draw = random.Random(20)
    left = [key for table in (COMMON, LORA) for key in table]
    for number in range(count):
        share = -(-len(left) // (count - number))
        forced, left = left[:share], left[share:]
        yield _recipe(draw, set(forced), number)


def _recipe(draw: random.Random, forced: set[str], number: int) -> tuple[str, set[str]]:
    adapter = draw.choices([name for _, name in ADAPTERS], [often for often, _ in ADAPTERS])[0]
    if forced & set(LORA) and adapter not in ("lora", "qlora"):
        adapter = draw.choice(("lora", "qlora"))
    lines = {"base_model": f"base_model: {draw.choice(MODELS)}"}
    _, data, templates = DATA[number] if number < len(DATA) else draw.choices(DATA, [often for often, *_ in DATA])[0]
    lines["datasets"] = f"datasets:\n{data}"
    if template := draw.choice(templates):
        lines["chat_template"] = f"chat_template: {template}"
    if adapter:
        lines["adapter"] = "adapter:" if adapter == "null" else f"adapter: {adapter}"
    for group in ALTERNATIVES:
        text = draw.choices([text for _, text in group], [often for often, _ in group])[0]
        for line in filter(None, _entries(text)):
            lines[line.partition(":")[0]] = line
    table = {**COMMON, **(LORA if adapter in ("lora", "qlora") else {})}
    for key, (often, texts) in table.items():
        if key in lines:
            continue
        if key in forced or draw.random() < often / 250:
            value = draw.choice(texts)
            lines[key] = f"{key}:{value}" if value.startswith("\n") else f"{key}: {value}"
    lines |= _held_in_bits(adapter, draw)
    if "batch_size" in lines:
        lines["batch_size"] = f"batch_size: {16 * int(lines['micro_batch_size'].split()[1])}"
    if "streaming" in lines:  # a stream has no length of its own, nor a part to hold back
        lines |= {"max_steps": "max_steps: 1000", "val_set_size": "val_set_size: 0.0"}
        lines["early_stopping_patience"] = "early_stopping_patience:"
    if adapter == "lora" and draw.random() < 0.2:
        lines["lora_target_parameters"] = "lora_target_parameters:\n  - experts.gate_up_proj\n  - experts.down_proj"
        lines["lora_dropout"] = "lora_dropout: 0"
    elif adapter in ("lora", "qlora"):
        lines["lora_dropout"] = f"lora_dropout: {draw.choice(('0.05', '0', '0.0'))}"
    if adapter in ("", "null") and draw.random() < 0.3:
        lines["unfrozen_parameters"] = "unfrozen_parameters:\n  - ^lm_head.weight$\n  - model.layers.4[4-9]+.mlp"
    return "\n".join(lines.values()) + "\n", set(lines)


def _held_in_bits(adapter: str, draw: random.Random) -> dict[str, str]:
    eight = draw.choice(("true", "false")) if adapter == "lora" else "false"
    four = "true" if adapter == "qlora" else "false"
    return {"load_in_8bit": f"load_in_8bit: {eight}", "load_in_4bit": f"load_in_4bit: {four}"}


def _entries(text: str) -> list[str]:
    """The top-level entries of a YAML text."""
    entries: list[str] = []
    for line in text.split("\n"):
        if line[:1] in (" ", "-") and entries:
            entries[-1] += f"\n{line}"
        else:
            entries.append(line)
    return entries
