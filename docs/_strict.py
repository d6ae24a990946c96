"""Gallery examples run as the tests do: a warning is an error."""

import warnings


def warnings_are_errors(gallery_conf, fname, when):
    """Set the filter before an example and put it back behind it."""
    if when == "before":
        warnings.simplefilter("error")
    else:
        warnings.filters.remove(("error", None, Warning, None, 0))
