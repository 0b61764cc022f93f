"""The connection log at a terminal: `tether connections`, `tether explain`, `tether report`."""
