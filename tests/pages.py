"""Reading the pages that scripts write."""


def table_of(page: str) -> list[list[str]]:
    """Return the cells of a page's Markdown table, its heads first."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]
