"""What other libraries call a setting of ours, for the hint of an error.

Names of RecBole 1.2, of RecTools' Transformer models, of RePlay's SasRec, of the trainer that it uses (Lightning), and
of DuoRec's code.
"""

import re

# Theirs, in small letters: the libraries that say so, and the setting here (or what to do instead).
PEER_NAMES: dict[str, tuple[str, str]] = {
    "train_batch_size": ("RecBole", "training.batch_size"),
    "stopping_step": ("RecBole", "training.patience"),
    "max_epochs": ("Lightning", "training.epochs"),
    "lr": ("RecTools", "training.learning_rate"),
    "clip_grad_norm": ("RecBole", "training.max_gradient_norm"),
    "gradient_clip_val": ("Lightning", "training.max_gradient_norm"),
    "enable_amp": ("RecBole", "training.precision"),
    "use_gpu": ("RecBole", "training.device"),
    "gpu_id": ("RecBole", "training.device"),
    "log_wandb": ("RecBole", "training.tracker"),
    "max_item_list_length": ("RecBole", "model.max_length"),
    "session_max_len": ("RecTools", "model.max_length"),
    "max_seq_len": ("RePlay", "model.max_length"),
    "embedding_size": ("RecBole", "model.hidden_size"),
    "n_factors": ("RecTools", "model.hidden_size"),
    "hidden_dropout_prob": ("RecBole", "model.dropout"),
    "dropout_rate": ("RecTools", "model.dropout"),
    "dropout_prob": ("RecBole", "model.hidden_dropout"),
    "attn_dropout_prob": ("RecBole", "model.attention_dropout"),
    "n_layers": ("RecBole", "model.num_layers"),
    "n_blocks": ("RecTools", "model.num_layers"),
    "block_count": ("RePlay", "model.num_layers"),
    "n_heads": ("RecBole", "model.num_heads"),
    "head_count": ("RePlay", "model.num_heads"),
    "inner_size": ("RecBole", "model.feed_forward_factor, in multiples of hidden_size"),
    "hidden_act": ("RecBole", "model.activation"),
    "initializer_range": ("RecBole", "model.weight_std, and of embeddings model.embedding_std"),
    "use_pos_emb": ("RecTools", "model.position_embedding"),
    "mask_ratio": ("RecBole", "model.mask_proportion"),
    "mask_prob": ("RecTools", "model.mask_proportion"),
    "ft_ratio": ("RecBole", "model.last_item_proportion"),
    "loss_type": ("RecBole", "model.loss: CE is full, BCE bce, BPR bpr_max"),
    "train_neg_sample_args": ("RecBole", "model.loss with model.num_negatives or model.negatives_per_target"),
    "n_negatives": ("RecTools", "model.num_negatives or model.negatives_per_target"),
    "gbce_t": ("RecTools", "model.calibration"),
    "lmd": ("DuoRec", "model.contrastive_weight"),
    "tau": ("DuoRec", "model.contrastive_temperature"),
    "user_id_field": ("RecBole", "data.user"),
    "item_id_field": ("RecBole", "data.item"),
    "time_field": ("RecBole", "data.time"),
    "data_path": ("RecBole", "data.data_root"),
    "user_inter_num_interval": ("RecBole", "data.min_user"),
    "item_inter_num_interval": ("RecBole", "data.min_item"),
    "train_min_user_interactions": ("RecTools", "data.min_user"),
}
# What is no setting here, and why.
NOT_HERE: dict[str, tuple[str, str]] = {
    "learner": ("RecBole", "the optimiser is Adam, with decoupled weight decay by training.weight_decay"),
    "eval_batch_size": ("RecBole", "histories are ranked in blocks that fit the cache"),
    "eval_args": ("RecBole", "all items are ranked; a split in time is data.validation_time with data.test_time"),
    "topk": ("RecBole", "cutoffs are given to the question: evaluate --k 5,10"),
    "valid_metric": ("RecBole", "the best epoch is chosen by NDCG@10, seen items kept"),
    "metrics": ("RecBole", "evaluate gives HR, NDCG and MRR, all at once"),
    "eval_step": ("RecBole", "validation comes after each epoch"),
    "use_key_padding_mask": ("RecTools", "nothing is padded, so there is nothing to mask"),
    "checkpoint_dir": ("RecBole", "the folder of a run is --out, or fit(out=...)"),
}


def peer_hint(name: str, known: list[str], where: str) -> str | None:
    """What to write in place of another library's setting; None for a name that none of them has.

    known: settings of what is asked. where: the table that the setting stood in, such as "model."; empty for keywords.
    """
    if name.lower() in NOT_HERE:
        peer, why = NOT_HERE[name.lower()]
        return f"{peer}'s {name} has no counterpart: {why}"
    if name.lower() not in PEER_NAMES:
        return None
    peer, ours = PEER_NAMES[name.lower()]
    section, setting = re.findall(r"^(\w+)\.(\w+)", ours)[0]
    if section == "model" and where in ("", "model.") and setting not in known:
        return None  # this model has no such setting
    if not where:  # keywords of a model in Python, where there are no tables
        ours = ours.replace("model.", "").replace("training.", "")
    return f"{peer}'s {name} is {ours} here"
