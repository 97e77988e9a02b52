"""A policy whose logits are no finite numbers: what to do."""

ADVICE = (
    "Set trainer.gradient_clip_val and go on with --resume from the last checkpoint, which is from before, or begin"
    " again under another --name with a lower optimizer.init_args.lr: a run that goes on keeps its own."
)
