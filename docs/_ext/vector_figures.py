"""Figures of the tutorials as SVG: sharp at every size, and drawn on the page's own background.

A figure of two panels or more has a width at which it can be read; in a narrower window it scrolls in a box
of its own, which ``side_by_side`` puts around each figure.
"""

from sphinx_gallery.scrapers import matplotlib_scraper

WIDE = 6  # inches: two panels or more
MANY = 500  # points, which are smaller as an image


def scrape(block, block_vars, gallery_conf):
    """Save the figures that a cell has drawn, without a ground of their own; the text that shows them."""
    import matplotlib.pyplot as plt

    figures = [plt.figure(number) for number in plt.get_fignums()]
    wide = any(figure.get_figwidth() > WIDE for figure in figures)
    for axes in (axes for figure in figures for axes in figure.axes):
        clouds = [dots for dots in axes.collections if len(dots.get_offsets()) > MANY]
        clouds += [
            line for line in axes.lines if line.get_ls() == "None" and len(line.get_xdata()) > MANY
        ]
        for cloud in clouds:
            cloud.set_rasterized(True)
    with plt.rc_context({"svg.hashsalt": "rbst"}):
        shown = matplotlib_scraper(
            block,
            block_vars,
            gallery_conf,
            format="svg",
            dpi=200,
            transparent=True,
            metadata={"Date": None},
        )
    return shown.replace("sphx-glr-single-img", "sphx-glr-single-img wide") if wide else shown


def _get_sg_image_scraper():
    """What sphinx-gallery asks a module for that ``image_scrapers`` names."""
    return scrape
