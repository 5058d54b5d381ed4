"""Make a folder of photographs searchable by another photograph, without a model.

Run it:     weft run examples/search_photos.py --set source='photos/**/*.jpg'
Search it:  weft search photos.lance --image holiday.jpg
            weft search photos.lance --like beach.jpg --where "width > 1000"

With a model of pictures and words instead of `image.Descriptor` it is searched by words too.
"""

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.pipeline
def search_photos(source: str = "photos/**/*.jpg", out: str = "photos.lance"):
    """Size and descriptor of each photograph, with an index where they are many."""
    rows = weft.read(Files(source)).apply(image.Probe())
    rows = rows.apply(image.Decode()).apply(image.Resize(512)).apply(image.Descriptor())
    return rows.select("uri", "width", "height", "descriptor").write(Lance(out, index="descriptor"))
