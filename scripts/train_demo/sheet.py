"""Contact sheets, to look at what was drawn or generated."""

from PIL import Image

from canvas import SIZE


def contact_sheet(images, columns, scale=1):
    """Pastes PIL pictures of the world's size into a grid, row by row."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (SIZE * columns, SIZE * rows), (255, 255, 255))
    for index, image in enumerate(images):
        sheet.paste(image, (SIZE * (index % columns), SIZE * (index // columns)))
    if scale == 1:
        return sheet
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.LANCZOS)
