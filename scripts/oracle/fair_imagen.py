#!/usr/bin/env python3
"""Freezes FairImagen's own FairPCA for `src/diffusion/fair_pca.rs`.

    python scripts/oracle/fair_imagen.py FAIRIMAGEN

FAIRIMAGEN is a checkout of fuzihaofzh/FairImagen (e2ef1c1, MIT). Its `FairPCA` is fitted on fixed groups
as `fairpca_processor.py` does (one axis of two values by `fit`, else `fit_mg`) and transforms fixed
embeddings with `enoise`; the group and the caption that its noise would draw are given.
Writes tests/fixtures/pipeline/fair_imagen.safetensors.

Needs: numpy, scipy, scikit-learn, torch, safetensors. Run from the repository's root.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path("tests/fixtures/pipeline/fair_imagen.safetensors")
WIDTH, CAPTIONS, NOISE = 12, 20, 0.6


def fitted(fair_pca, groups, components, alone):
    fpca = fair_pca.FairPCA(target_dim=components, standardize=False, tradeoff_param=0.4)
    fpca.usermode = {"enoise": NOISE}
    x = torch.cat(groups)
    if alone and len(groups) == 2:
        fpca.fit(x.numpy(), torch.cat([torch.zeros(len(groups[0])), torch.ones(len(groups[1]))]).numpy())
    else:
        z = torch.zeros(len(x), len(groups))
        first = 0
        for place, group in enumerate(groups):
            z[first : first + len(group), place] = 1
            first += len(group)
        fpca.fit_mg(x.numpy(), z.numpy())
    fpca.UUT, fpca.nzTXT = torch.tensor(fpca.UUT).float(), torch.tensor(fpca.nzTXT).float()
    # `get_emperical`, of one axis.
    rows = [fpca.nzTXT if len(fpca.nzTXT) == 1 else fpca.nzTXT[i : i + 1] for i in range(len(groups))]
    fpca.reaches = [row.matmul(group.T) for row, group in zip(rows, groups)]
    return fpca


def main(folder):
    sys.path.insert(0, str(Path(folder) / "src"))
    import fair_PCA

    generator = torch.Generator().manual_seed(5)
    random = lambda *shape: torch.randn(*shape, generator=generator)
    embeddings = random(1, 4, WIDTH)
    frozen = {"embeddings": embeddings[0].contiguous()}
    for case, count, alone in (("two", 2, True), ("pair", 2, False), ("three", 3, True)):
        groups = [random(CAPTIONS + place, WIDTH) + 0.8 * random(WIDTH) for place in range(count)]
        frozen |= {f"{case}.group.{place}": group for place, group in enumerate(groups)}
        for components in (6, 600):
            fpca = fitted(fair_PCA, groups, components, alone)
            for group, sample in ((0, 1), (count - 1, 3)):
                fpca.rand_group = torch.tensor([group])
                fpca.noise = fpca.reaches[group][0, [sample]][None]
                frozen[f"{case}.{components}.{group}.{sample}"] = fpca.transform(embeddings.clone())[0].contiguous()
    save_file(frozen, OUT)


if __name__ == "__main__":
    main(sys.argv[1])
