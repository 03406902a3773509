"""The figures as SVG: text stays text, the same drawing gives the same bytes."""

from tapfm_eval.report.drawings import CurveGrid, Drawing, FlowDiagram, ForestPlot, PictureSheet
from tapfm_eval.report.figures.flow import flow_figure
from tapfm_eval.report.figures.forest import forest_figure
from tapfm_eval.report.figures.grid import grid_figure
from tapfm_eval.report.figures.pictures import picture_figure, with_pictures
from tapfm_eval.report.figures.sheet import font_folder as font_folder
from tapfm_eval.report.figures.sheet import own_style, svg_of
from tapfm_eval.report.figures.sheet import printable as printable


def draw(drawing: Drawing) -> str:
    """The drawing as an SVG document with a transparent ground, as wide as the text of a page."""
    with own_style():
        match drawing:
            case ForestPlot():
                return svg_of(forest_figure(drawing))
            case CurveGrid():
                return svg_of(grid_figure(drawing))
            case FlowDiagram():
                return svg_of(flow_figure(drawing))
            case PictureSheet():
                figure, placed = picture_figure(drawing)
                return with_pictures(svg_of(figure), placed)
