"""Figures of the tutorials as SVG: sharp at every size, and drawn on the page's own background.

A figure of two panels or more has a width at which it can be read; in a narrower window it scrolls in a box
of its own, which ``side_by_side`` puts around each figure.
"""

from sphinx_gallery.scrapers import matplotlib_scraper

WIDE = 6  # inches: two panels or more


def scrape(block, block_vars, gallery_conf):
    """Save the figures that a cell has drawn, without a ground of their own; the text that shows them."""
    import matplotlib.pyplot as plt

    wide = any(plt.figure(number).get_figwidth() > WIDE for number in plt.get_fignums())
    with plt.rc_context({"svg.hashsalt": "rbst"}):
        shown = matplotlib_scraper(
            block,
            block_vars,
            gallery_conf,
            format="svg",
            transparent=True,
            metadata={"Date": None},
        )
    return shown.replace("sphx-glr-single-img", "sphx-glr-single-img wide") if wide else shown


def _get_sg_image_scraper():
    """What sphinx-gallery asks a module for that ``image_scrapers`` names."""
    return scrape
