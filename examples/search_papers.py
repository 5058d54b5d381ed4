"""Make the pages of `papers.py` searchable by what they say.

Run it:     weft run examples/search_papers.py --set source=papers.lance
Search it:  weft search passages.lance --text "how do clocks agree?"
"""

import weft
from weft.connectors import Lance
from weft.operators import text


@weft.pipeline
def search_papers(
    source: str = "papers.lance", out: str = "passages.lance", model: str = "all-MiniLM-L6-v2"
):
    """Passages of some sentences, and the vector of each."""
    rows = weft.read(Lance(source))
    rows = rows.apply(text.Normalize())
    rows = rows.apply(text.Chunk(3, overlap=1, unit="sentences"))
    rows = rows.apply(text.Embed(model), text="chunk")
    return rows.select("uri", "title", "page", "chunk", "embedding").write(
        Lance(out, index="embedding")
    )
