"""Trainer `plain_sgd`: stochastic gradient descent in a loop that fits on a screen, in one process, for teaching."""

from core import Problem, Trainer, Training, TrainResult, hookimpl

IGNORED = ("optimizer", "lr_scheduler", "gradient_accumulation_steps", "sample_packing")


@hookimpl
def check_recipe(recipe):
    if recipe["trainer"] != "plain_sgd":
        return []
    return [Problem(f"plain_sgd ignores {key!r}", key=(key,), severity="warning") for key in IGNORED if key in recipe]


def prepare(plan, model, tokenizer, data):
    def run():
        import torch

        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=plan.recipe["learning_rate"])
        losses = []
        model.train()
        while len(losses) < (plan.recipe["max_steps"] or 10):
            for batch in data.batches(plan.recipe["micro_batch_size"]):
                loss = model(**{name: value.to(model.device) for name, value in batch.items()}).loss
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"loss is {loss.item()} at step {len(losses) + 1}")
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
                if len(losses) == plan.recipe["max_steps"]:
                    break
        model.eval()
        return TrainResult(model, losses, steps=len(losses))

    return Training(model, run)


@hookimpl
def trainers():
    return [Trainer("plain_sgd", prepare, kind="sft", description="Plain gradient descent, one process, for teaching")]
