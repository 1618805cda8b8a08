"""What the HTML pages of commands share: templates, charts, and figures in words."""
