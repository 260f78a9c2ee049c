"""Training steps of OLMoE as transformers implements it: forward, backward, clipping, AdamW; f32 on the CPU.

First request: {"threads", "seed", "config", "experts", "ids", "clipNorm", "optimizer": {"lr", "betas", "eps",
"weight_decay"}}; its answer tells versions and which AdamW was the faster. Every further request is one step on the
same batch; its answer is {"seconds", "loss"}.
"""
import time

import torch
import transformers
from lines import serve
from transformers import OlmoeConfig, OlmoeForCausalLM


def faster_adamw(parameters, options):
    """Times the two fast implementations of AdamW on the real parameters and keeps the better."""
    candidates = []
    for name in ("foreach", "fused"):
        optimizer = torch.optim.AdamW(parameters, **options, **{name: True})
        seconds = []
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 1e-12)
            start = time.perf_counter()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
        candidates.append((min(seconds), name, optimizer))
    _, name, optimizer = min(candidates, key=lambda candidate: candidate[0])
    optimizer.state.clear()
    return name, optimizer


class Trainer:
    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        torch.manual_seed(request["seed"])
        config = OlmoeConfig.from_dict(request["config"])
        config._experts_implementation = request["experts"]
        self.model = OlmoeForCausalLM(config).train()
        self.parameters = list(self.model.parameters())
        initial = [parameter.detach().clone() for parameter in self.parameters]
        self.adamw, self.optimizer = faster_adamw(self.parameters, request["optimizer"])
        with torch.no_grad():
            for parameter, value in zip(self.parameters, initial):
                parameter.copy_(value)
        self.ids = torch.tensor(request["ids"])
        self.clip_norm = request["clipNorm"]

    def step(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "loss": loss.item()}

    def describe(self):
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "experts": self.model.config._experts_implementation,
            "attention": self.model.config._attn_implementation,
            "adamw": self.adamw,
            "parameters": sum(parameter.numel() for parameter in self.parameters),
        }


trainer = None


def handle(request):
    global trainer
    if trainer is None:
        trainer = Trainer(request)
        return trainer.describe()
    return trainer.step()


serve(handle)
