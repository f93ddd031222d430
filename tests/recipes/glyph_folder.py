"""A tiny set of glyphs for the tests of recipes: noisy patterns, as if fonts had drawn them."""

import numpy as np

from attar.data.glyphs import pack_images


def make_glyph_folder(folder, *, classes=12, designs=6, side=16, seed=0):
    """Write a folder of glyphs: random patterns, each design with changes of its own."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    patterns = generator.random((classes, side // 4, side // 4)) > 0.5
    patterns = patterns.repeat(4, axis=1).repeat(4, axis=2) * 200

    def write(name, count, first_face):
        labels = np.repeat(np.arange(classes), count)
        noise = generator.integers(0, 56, (len(labels), side, side))
        np.savez_compressed(
            folder / f"{name}.npz",
            images=pack_images((patterns[labels] + noise).astype(np.uint8)),
            label=labels.astype(np.uint16),
            face=(first_face + np.tile(np.arange(count), classes)).astype(np.uint8),
        )

    write("train", designs, 0)
    write("val", 2, designs)
    names = np.array([f"face {face}" for face in range(designs + 2)])
    np.savez(folder / "meta.npz", classes=np.arange(classes) + 0x4E00, face_name=names)
    return folder
