"""The tasks' gradients as autograd gives them, the oracle of all that measures them on the way."""

import torch

from utils.core.names import TASKS


def flat_norms_and_cosine(losses, tensors):
    flat = {}
    for task in TASKS:
        found = torch.autograd.grad(losses[task], tensors, retain_graph=True, allow_unused=True)
        filled = []
        for gradient, tensor in zip(found, tensors, strict=True):
            if gradient is None:
                gradient = torch.zeros_like(tensor)
            filled.append(gradient.flatten())
        flat[task] = torch.cat(filled).double()
    norms = {task: gradient.norm().item() for task, gradient in flat.items()}
    return norms, torch.cosine_similarity(*flat.values(), dim=0).item()


def norms_by_autograd(model, images, losses_of):
    """The oracle: the gradients of the tasks' losses with respect to what the heads are given."""
    features = {i: x.detach().requires_grad_() for i, x in model.trunk(images).items()}
    return flat_norms_and_cosine(losses_of(model.heads(features)), list(features.values()))
