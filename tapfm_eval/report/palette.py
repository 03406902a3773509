"""The colours of the report, the same on paper, on screen and in figures; on a dark screen each has a lighter twin."""

INK = "#1b1f24"
MUTED = "#5c646e"
HAIRLINE = "#c6cbd1"
FAINT = "#eef0f2"
ACCENT = "#0b5c8f"
ARM_COLOURS = (ACCENT, "#c9591a", "#12826c", "#a8528f", "#b08414", "#4a9bd1")  # told apart by colour-blind readers
LINE_STYLES = ((), (4.0, 1.6), (1.2, 1.4))  # an arm past the sixth takes its colour again, with dashes

DARK_TWINS = {
    INK: "#e4e7eb",
    MUTED: "#a0a8b2",
    HAIRLINE: "#3c434c",
    FAINT: "#22272d",
    ACCENT: "#6cb6e6",
    "#c9591a": "#ec8a50",
    "#12826c": "#4fc3a8",
    "#a8528f": "#d68cc0",
    "#b08414": "#dcb54c",
    "#4a9bd1": "#9fd0f3",
}
